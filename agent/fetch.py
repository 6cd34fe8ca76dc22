"""Pull of blobs and TUF metadata over the link, in blocks that the device asks for, checks, and asks for again.

One window of requests is shared by all pulls, so the device decides how much is in flight. A block with wrong bytes is
asked for again, alone; after some tries the pull stops with a reason and is resumed later from what is on disk.
"""

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from agent.blobs import BlobStore
from agent.broadcast import Broadcasts, Invited
from agent.window import Flight, Window
from modules.bucket import BURST_S, Bucket
from modules.digests import BLOCK, HASH, Blob, block_matches, check_index, sha256
from modules.errors import Invalid, TransferStalled
from modules.names import Digest
from modules.protocol.blobs import (
    BUSY,
    INVITED,
    MAX_MASK,
    MISSING,
    OK,
    Block,
    MetadataGet,
    decode_block,
    encode,
)

# Requests of one pull at the same time; how many blocks all of them may ask for is the window's business.
_REQUESTS: Final = 2
_MAX_MEMORY: Final = 16 << 20
# A server that is busy asks us to wait; that is no failed try, as long as it ends.
_BUSY_WAIT_S: Final = 0.5
_BUSY_MOST: Final = 120
# So long may an answer of trust metadata be silent, on a slow link as long as a few blocks take: whoever lets it get
# lost holds up this one question, and not what is asked after it.
METADATA_S: Final = 60.0

Send = Callable[[bytes], Awaitable[None]]
Progress = Callable[[int], None]


class Lane(Protocol):
    """A quicker way for many blocks, which may fail: ``agent/https_lane.py``."""

    async def bring(
        self, blob: Blob, index: bytes, missing: set[int], stream: BinaryIO, progress: Progress, bucket: Bucket
    ) -> str:
        """Fetch what it can, no faster than the bucket fills; returns why the rest comes another way, or nothing."""
        ...


class Missing(TransferStalled):
    """The server has no such blob or metadata file."""

    code = "missing"


class _Busy(Exception):
    """The server asks us to wait."""


class OtherLength(TransferStalled):
    """The server says that the blob has another length, ``said``; without its bytes that proves nothing."""

    said = 0


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

    def take(self, number: int, data: bytes) -> bool:
        """Write a block that is missing, if it is the right one."""
        if number not in self.missing or not block_matches(self.index, number, data):
            return False
        os.pwrite(self.stream.fileno(), data, number * BLOCK)
        self.missing.discard(number)
        self.busy = 0
        self.progress(len(data))
        return True


class Puller:
    """Asks through ``send`` (a publish to ``up/blob/get``) and is fed with what arrives at ``down/blob``.

    With ``broadcasts`` it takes part in those; with a ``limit`` it asks for no more bytes a second than that, and takes
    part in none, for they would not heed it. ``lane`` gives the quicker way, where there is one; ``detour`` says why it
    is not used, empty: it is, or none is.
    """

    def __init__(
        self,
        send: Send,
        *,
        timeout_s: float,
        tries: int,
        broadcasts: Broadcasts | None = None,
        lane: Callable[[], Lane] | None = None,
        limit: int = 0,
    ) -> None:
        self._send = send
        self._lane = lane
        self.detour = ""
        self._tries = tries
        self._window = Window(least_s=timeout_s)
        self._bucket = Bucket(limit)
        self._broadcasts = broadcasts if broadcasts is not None and not limit else Broadcasts()
        self._broadcasts.belong_to(self._window, send)
        self._pulls: dict[Digest, _Pull] = {}
        self._one_by_one: weakref.WeakValueDictionary[Digest, asyncio.Lock] = weakref.WeakValueDictionary()
        self.bytes_received = 0

    def on_block(self, payload: bytes) -> None:
        """Take a message from ``down/blob``; one that nobody waits for, or that is no block, is dropped."""
        self.bytes_received += len(payload)
        try:
            block = decode_block(payload)
        except Invalid:
            return
        self._window.put(block)

    def on_shared(self, blob: Digest, payload: bytes) -> None:
        """Take a message from a shared topic: a block that was asked for, or one that will not have to be."""
        self.bytes_received += len(payload)
        if (shared := self._broadcasts.block(blob, payload)) is None:
            return
        if pull := self._pulls.get(blob):
            if shared.number not in pull.missing:
                return  # it is here already
            try:
                right = pull.take(shared.number, shared.data)
            except OSError:  # a full disk: the pull meets it with what it asks for itself, and says so
                return
            if not right:
                self._broadcasts.wrong(blob)
                return
        self._broadcasts.right(blob)
        self._window.share(blob, shared)

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
            if missing and self._lane is not None:
                self.detour = await self._lane().bring(blob, index, missing, stream, progress, self._bucket)
            pull = self._pulls[blob.sha256] = _Pull(blob, index, missing, stream, progress, {})
            try:
                await self._blocks(pull)
            finally:
                del self._pulls[blob.sha256]
                self._broadcasts.ended(blob.sha256)
        await asyncio.to_thread(store.finish, blob)

    async def _index(self, blob: Blob) -> bytes:
        length = blob.block_count * HASH
        index = await self.small(blob.blocks, length, shared=True)
        check_index(blob, index)
        return index

    async def small(self, digest: Digest, length: int, *, urgent: bool = False, shared: bool = False) -> bytes:
        """A small blob, into memory, checked against its digest; an urgent one waits for no other pull.

        A ``shared`` one may come by a broadcast; where what came so is wrong, it is pulled.

        Raises:
            Missing: the server does not have it.
            TransferStalled: it did not come, or came wrong, or (OtherLength) the server has another length.
        """
        if length > _MAX_MEMORY:
            raise Invalid(f"{length} bytes are more than the {_MAX_MEMORY} allowed", element=digest)
        self._bucket.take(length)
        for way in (True, False) if shared else (False,):
            data = await self._small(digest, length, urgent=urgent, shared=way)
            if len(data) == length and sha256(data) == digest:
                return data
        raise TransferStalled("what came is not what was signed", element=digest)

    async def _small(self, digest: Digest, length: int, *, urgent: bool, shared: bool) -> bytes:
        parts: dict[int, bytes] = {}
        count = -(-length // BLOCK)

        async def ask() -> bytes:
            while wanted := [n for n in range(count) if n not in parts][: self._window.request]:
                async with self._broadcasts.flight(digest, len(wanted), urgent=urgent, shared=shared) as flight:
                    await self._send(self._broadcasts.ask(flight, digest, wanted, count - 1))
                    for _ in wanted:
                        block = _good(await flight.next())
                        if block.length != length and not shared:  # there, anybody may have said it
                            wrong = OtherLength(f"it has {block.length} bytes, not {length}", element=digest)
                            wrong.said = block.length
                            raise wrong
                        if block.number not in wanted:
                            raise TimeoutError  # nothing that was asked for came
                        parts[block.number] = block.data
            return b"".join(parts[n] for n in sorted(parts))

        try:
            return await self._tried(ask)
        finally:
            if shared:
                self._broadcasts.ended(digest)

    async def metadata(self, name: str) -> bytes:
        """A TUF metadata file, which waits for no pull of blobs; its signatures are the reader's business.

        Raises:
            Missing: the server has none of that name.
            TransferStalled: it did not come in time.
        """
        tries, silence = 0, max(METADATA_S, 4 * self._window.learned_s)
        now = asyncio.get_running_loop().time

        async def ask() -> bytes:
            nonlocal tries
            tries += 1
            async with self._window.flight(1, apart=True, counts=False) as flight:
                flight.least_s = self._window.learned_s * 2.0 ** (tries - 1)
                await self._send(encode(MetadataGet(request=flight.request, name=name)))
                return await _collected(flight, lambda: ends.reschedule(now() + silence))

        try:
            async with asyncio.timeout(silence) as ends:
                return await self._tried(ask)
        except TimeoutError as error:
            raise TransferStalled(
                f"nothing came of it within {silence:.0f} s", element=name, remedy="it is tried again by itself"
            ) from error

    async def _tried(self, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """Something small, as often as it takes."""
        tries, busy, invited = 0, 0, 0
        while tries < self._tries and busy < _BUSY_MOST:
            try:
                return await ask()
            except Invited:
                invited += 1
                tries += invited > 1
            except TimeoutError:
                tries += 1
            except _Busy:
                busy += 1
                await asyncio.sleep(_BUSY_WAIT_S)
        raise TransferStalled(
            f"the server did not answer {tries} times and was busy {busy} times",
            element="pull",
            remedy="it is tried again by itself",
        )

    async def _blocks(self, pull: _Pull) -> None:
        """Fetch the missing blocks, a few at a time; each is checked before it is written."""
        while pull.missing:
            left = sorted(pull.missing, reverse=True)
            workers = [
                asyncio.create_task(self._work(pull, left), name=f"pull-{number}") for number in range(_REQUESTS)
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

    def _most(self, digest: Digest) -> int:
        """How many blocks to ask for at once: as the window says, and the broadcast, and the limit."""
        most = self._window.request
        if ahead := self._broadcasts.ahead(digest):
            most = min(most, max(ahead // _REQUESTS, 1))
        if self._bucket.rate:
            most = min(most, max(int(self._bucket.rate * BURST_S) // BLOCK, 1))
        return most

    async def _work(self, pull: _Pull, left: list[int]) -> None:
        """Ask for the blocks in ``left``, which is sorted downwards and shared, until there are none."""
        while left and pull.busy < _BUSY_MOST:
            await self._some(pull, left)

    async def _some(self, pull: _Pull, left: list[int]) -> None:
        """Ask for a few blocks; what comes in time and right is no longer missing, the rest failed once more."""
        wanted: list[int] = []
        digest, most = pull.blob.sha256, self._most(pull.blob.sha256)
        await asyncio.sleep(self._bucket.take(most * BLOCK))
        try:
            async with self._broadcasts.flight(digest, most) as flight:
                wanted = _next(left, pull.missing, most)
                self._bucket.take((len(wanted) - most) * BLOCK)
                if not wanted:
                    return  # the other worker has asked for the rest
                asked = set(wanted)
                await self._send(self._broadcasts.ask(flight, digest, wanted, max(pull.missing)))
                for _ in wanted:
                    block = _good(await flight.next())
                    if block.number in asked and (
                        block.number not in pull.missing or pull.take(block.number, block.data)
                    ):
                        asked.discard(block.number)
                        flight.waits_for.discard(block.number)
        except Invited:
            left[:] = sorted(left + wanted, reverse=True)
            return
        except TimeoutError:
            pass  # what did not come is asked for again, and counted
        except _Busy:
            pull.busy += 1
            await asyncio.sleep(_BUSY_WAIT_S)
            return
        for number in wanted:
            if number in pull.missing:
                pull.tries[number] = pull.tries.get(number, 0) + 1


def _next(left: list[int], missing: set[int], most: int) -> list[int]:
    """Take the lowest numbers that are still missing and fit one request's mask out of ``left``."""
    wanted: list[int] = []
    while left and len(wanted) < most and (not wanted or left[-1] - wanted[0] < MAX_MASK):
        if (number := left.pop()) in missing:
            wanted.append(number)
    return wanted


def _good(block: Block) -> Block:
    """The block, unless it is a refusal.

    Raises:
        Missing: the server answers that there is none.
        Invited: it asks us to take the blob from its broadcast.
        TimeoutError: it answers with what nobody knows; it is asked again.
        _Busy: the server asks us to wait.
    """
    if block.status == MISSING:
        raise Missing(
            f"the server does not have it: {block.data[:200].decode(errors='replace')}",
            element="pull",
            remedy="publish the module again",
        )
    if block.status == INVITED:
        raise Invited(block.number)
    if block.status == BUSY:
        raise _Busy
    if block.status != OK:
        raise TimeoutError
    return block


async def _collected(flight: Flight, on_block: Callable[[], None]) -> bytes:
    """All blocks of one answer, with a call for each new one: those of an earlier one may be of an older file."""
    parts: dict[int, bytes] = {}
    while True:
        block = _good(await flight.next())
        if block.length > _MAX_MEMORY or block.number * BLOCK > block.length:
            raise TransferStalled(f"no block {block.number} of {block.length} bytes is taken", element="pull")
        if block.number not in parts:
            on_block()
        parts[block.number] = block.data
        if len(parts) * BLOCK >= block.length:
            return b"".join(parts[n] for n in sorted(parts))
