"""Pull of blobs and TUF metadata over the link, in blocks that the device asks for, checks, and asks for again.

One window of requests is shared by all pulls, so the device decides how much is in flight. A block with wrong bytes is
asked for again, alone; after some tries the pull stops with a reason and is resumed later from what is on disk.
"""

import asyncio
import os
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

from agent.blobs import BlobStore
from modules.digests import BLOCK, HASH, Blob, block_matches, check_index, sha256
from modules.errors import Invalid, TransferStalled
from modules.names import Digest
from modules.protocol.blobs import (
    BUSY,
    MISSING,
    OK,
    BlobGet,
    Block,
    Get,
    MetadataGet,
    decode_block,
    encode,
)

# 16 blocks of 64 KiB in flight: measured, more gains nothing and makes the broker queue.
_BATCH: Final = 8
_REQUESTS: Final = 2
_MAX_MEMORY: Final = 16 << 20
# A server that is busy asks us to wait; that is no failed try, as long as it ends.
_BUSY_WAIT_S: Final = 0.5
_BUSY_MOST: Final = 120

Send = Callable[[bytes], Awaitable[None]]
Progress = Callable[[int], None]


class Missing(TransferStalled):
    """The server has no such blob or metadata file."""

    code = "missing"


class _Busy(Exception):
    """The server asks us to wait."""


@dataclass(slots=True)
class _Pull:
    """One blob on its way: what it must be, what is missing, where it goes, and how often each block failed."""

    blob: Blob
    index: bytes
    missing: set[int]
    stream: BinaryIO
    progress: Progress
    tries: dict[int, int]
    busy: int = 0


class Puller:
    """Asks through ``send`` (a publish to ``up/blob/get``) and is fed with what arrives at ``down/blob``."""

    def __init__(self, send: Send, *, timeout_s: float, tries: int) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self._tries = tries
        self._request = 0
        self._waiting: dict[int, asyncio.Queue[Block]] = {}
        self._window = asyncio.Semaphore(_REQUESTS)
        self._one_by_one: weakref.WeakValueDictionary[Digest, asyncio.Lock] = weakref.WeakValueDictionary()
        self.bytes_received = 0

    def on_block(self, payload: bytes) -> None:
        """Take a message from ``down/blob``; one that nobody waits for, or that is no block, is dropped."""
        self.bytes_received += len(payload)
        try:
            block = decode_block(payload)
        except Invalid:
            return
        if queue := self._waiting.get(block.request):
            queue.put_nowait(block)

    async def blob(self, blob: Blob, store: BlobStore, progress: Progress = lambda _: None) -> None:
        """Bring a blob into the store; resumes a partial one. ``progress`` is told of each number of bytes gained.

        Raises:
            TransferStalled: blocks stopped coming or kept coming wrong; what arrived is kept.
            Invalid: the blob cannot be what was signed.
        """
        # Two modules may ask for the same blob at once; the second one finds it there.
        async with self._one_by_one.setdefault(blob.sha256, asyncio.Lock()):
            await self._pull(blob, store, progress)

    async def _pull(self, blob: Blob, store: BlobStore, progress: Progress) -> None:
        if store.has(blob):
            progress(blob.length)
            return
        index = store.index(blob)
        if index is None:
            index = await self._index(blob)
            store.keep_index(blob, index)
        with store.open_partial(blob) as stream:
            missing = await asyncio.to_thread(store.missing, index, stream)
            await asyncio.to_thread(store.copy_known, index, missing, stream)
            progress(blob.length - sum(blob.block_length(n) for n in missing))
            await self._blocks(_Pull(blob, index, missing, stream, progress, {}))
        await asyncio.to_thread(store.finish, blob)

    async def _index(self, blob: Blob) -> bytes:
        length = blob.block_count * HASH
        index = await self.small(blob.blocks, length)
        check_index(blob, index)
        return index

    async def small(self, digest: Digest, length: int) -> bytes:
        """A small blob, into memory, checked against its digest.

        Raises:
            TransferStalled: it did not come, or came wrong.
        """
        if length > _MAX_MEMORY:
            raise Invalid(f"{length} bytes are more than the {_MAX_MEMORY} allowed", element=digest)
        data = await self._memory(lambda request: BlobGet(request=request, digest=digest), length)
        if len(data) != length or sha256(data) != digest:
            raise TransferStalled("what came is not what was signed", element=digest)
        return data

    async def metadata(self, name: str) -> bytes:
        """A TUF metadata file; its signatures are the reader's business.

        Raises:
            Missing: the server has none of that name.
            TransferStalled: it did not come in time.
        """
        return await self._memory(lambda request: MetadataGet(request=request, name=name), None)

    async def _memory(self, get: Callable[[int], Get], length: int | None) -> bytes:
        """All blocks of something small. A blob's blocks are asked for by number, a metadata file's come unasked."""
        parts: dict[int, bytes] = {}
        if length == 0:
            return b""
        tries, busy = 0, 0
        while tries < self._tries and busy < _BUSY_MOST:
            async with self._window:
                request, queue = self._open()
                try:
                    ask = get(request)
                    if isinstance(ask, BlobGet) and length is not None:
                        return await self._small_blob(ask, queue, length, parts)
                    await self._send(encode(ask))
                    return await self._collect(queue)
                except TimeoutError:
                    tries += 1
                except _Busy:
                    busy += 1
                    await asyncio.sleep(_BUSY_WAIT_S)
                finally:
                    del self._waiting[request]
        raise TransferStalled(
            f"the server did not answer {tries} times and was busy {busy} times",
            element="pull",
            remedy="it is tried again by itself",
        )

    async def _small_blob(
        self, ask: BlobGet, queue: asyncio.Queue[Block], length: int, parts: dict[int, bytes]
    ) -> bytes:
        count = -(-length // BLOCK)
        while len(parts) < count:
            numbers = [n for n in range(count) if n not in parts][:_BATCH]
            mask = sum(1 << (n - numbers[0]) for n in numbers if n - numbers[0] < _BATCH)
            await self._send(encode(BlobGet(request=ask.request, digest=ask.digest, first=numbers[0], mask=mask)))
            for _ in range(mask.bit_count()):
                block = await self._next(queue)
                if not 0 <= block.number < count:
                    raise TimeoutError  # nothing that was asked for came
                parts[block.number] = block.data
        return b"".join(parts[n] for n in range(count))

    async def _collect(self, queue: asyncio.Queue[Block]) -> bytes:
        """The blocks of one answer: those of an earlier one may be of an older file."""
        parts: dict[int, bytes] = {}
        while True:
            block = await self._next(queue)
            if block.length > _MAX_MEMORY or not 0 <= block.number * BLOCK <= block.length:
                raise TransferStalled(f"no block {block.number} of {block.length} bytes is taken", element="pull")
            parts[block.number] = block.data
            if len(parts) * BLOCK >= block.length:
                return b"".join(parts[n] for n in sorted(parts))

    async def _next(self, queue: asyncio.Queue[Block]) -> Block:
        """The next good block.

        Raises:
            Missing: the server answers that there is none.
            TimeoutError: nothing came in time.
            _Busy: the server asks us to wait.
        """
        while True:
            async with asyncio.timeout(self._timeout_s):
                block = await queue.get()
            if block.status == OK:
                return block
            if block.status == MISSING:
                raise Missing(
                    f"the server does not have it: {block.data[:200].decode(errors='replace')}",
                    element="pull",
                    remedy="publish the module again",
                )
            if block.status == BUSY:
                raise _Busy

    def _open(self) -> tuple[int, asyncio.Queue[Block]]:
        self._request += 1
        queue: asyncio.Queue[Block] = asyncio.Queue()
        self._waiting[self._request] = queue
        return self._request, queue

    async def _blocks(self, pull: _Pull) -> None:
        """Fetch the missing blocks, in batches, two batches in flight; each is checked before it is written."""
        while pull.missing:
            batches = deque(_batches(sorted(pull.missing)))
            workers = [
                asyncio.create_task(self._work(pull, batches), name=f"pull-{number}") for number in range(_REQUESTS)
            ]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                # They write to the stream until they have ended.
                await asyncio.gather(*workers, return_exceptions=True)
            if pull.busy >= _BUSY_MOST:
                raise TransferStalled(
                    f"the server was busy {pull.busy} times", element=pull.blob.sha256, remedy="the pull is resumed"
                )
            worst = max((pull.tries.get(number, 0) for number in pull.missing), default=0)
            if worst >= self._tries:
                raise TransferStalled(
                    f"{len(pull.missing)} blocks did not come, or came wrong, {worst} times; "
                    f"the first is {min(pull.missing)}",
                    element=pull.blob.sha256,
                    remedy="the pull is resumed by itself; if this stays, check the fleet server's blob",
                )

    async def _work(self, pull: _Pull, batches: deque[list[int]]) -> None:
        while batches and pull.busy < _BUSY_MOST:
            await self._batch(pull, batches.popleft())

    async def _batch(self, pull: _Pull, numbers: list[int]) -> None:
        """Ask for a few blocks; what comes in time and right is no longer missing, the rest failed once more."""
        left = set(numbers)
        async with self._window:
            request, queue = self._open()
            mask = sum(1 << (number - numbers[0]) for number in numbers)
            try:
                ask = BlobGet(request=request, digest=pull.blob.sha256, first=numbers[0], mask=mask)
                await self._send(encode(ask))
                for _ in numbers:
                    block = await self._next(queue)
                    if block.number in left and block_matches(pull.index, block.number, block.data):
                        os.pwrite(pull.stream.fileno(), block.data, block.number * BLOCK)
                        left.discard(block.number)
                        pull.missing.discard(block.number)
                        pull.progress(len(block.data))
            except TimeoutError:
                pass  # what did not come is asked for again, and counted
            except _Busy:
                pull.busy += 1
                await asyncio.sleep(_BUSY_WAIT_S)
                return
            finally:
                del self._waiting[request]
        for number in left:
            pull.tries[number] = pull.tries.get(number, 0) + 1


def _batches(numbers: list[int]) -> list[list[int]]:
    """Runs of block numbers that fit one request's mask."""
    batches: list[list[int]] = []
    for number in numbers:
        if batches and number - batches[-1][0] < _BATCH:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches
