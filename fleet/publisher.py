"""Answers pulls: blocks of blobs and TUF metadata files, fairly among the devices that ask.

The device's window is the flow control; here only the number of requests that wait per device is bounded. Devices take
turns, one request each. Blocks go out with QoS 0: what gets lost is asked for again.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from fleet.mishaps import Mishaps
from fleet.refusals import Missing
from modules.digests import BLOCK
from modules.errors import Invalid, LinkLost
from modules.names import DeviceId, Digest
from modules.protocol import blobs as wire
from modules.protocol.topics import Topics

log = logging.getLogger(__name__)

WAITING_PER_DEVICE: Final = 8

Send = Callable[[str, bytes], Awaitable[None]]
ReadBlocks = Callable[[Digest, list[int]], tuple[int, list[tuple[int, bytes]]]]
ReadMetadata = Callable[[str], bytes]


@dataclass
class _Turn:
    """What one device waits for; ``refused`` is the last request that found the queue full."""

    requests: deque[wire.Get] = field(default_factory=deque)
    refused: int | None = None


class Publisher:
    """Queues requests per device and serves them from a few workers."""

    def __init__(
        self,
        *,
        topics: Topics,
        send: Send,
        read_blocks: ReadBlocks,
        read_metadata: ReadMetadata,
        workers: int,
        mishaps: Mishaps,
    ) -> None:
        self._topics, self._send = topics, send
        self._read_blocks, self._read_metadata = read_blocks, read_metadata
        self._workers = workers
        self._mishaps = mishaps
        self._turns: OrderedDict[DeviceId, _Turn] = OrderedDict()
        self._work = asyncio.Condition()

    async def take(self, device: DeviceId, payload: bytes) -> None:
        """Queue a request; an unreadable one is dropped, because it names nothing that could be answered."""
        try:
            get = wire.decode_get(payload)
        except Invalid as error:
            log.info("request of %s ignored: %s", device, error)
            return
        async with self._work:
            turn = self._turns.setdefault(device, _Turn())
            if len(turn.requests) < WAITING_PER_DEVICE:
                turn.requests.append(get)
            else:
                turn.refused = get.request
            self._work.notify()

    async def run(self) -> None:
        """Serve for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(), name=f"blocks-{number}")

    async def _worker(self) -> None:
        while True:
            async with self._work:
                await self._work.wait_for(lambda: self._turns)
                device, turn = self._turns.popitem(last=False)
                get, refused = turn.requests.popleft(), turn.refused
                turn.refused = None
                if turn.requests:
                    self._turns[device] = turn  # at the end: everyone else is served first
                    self._work.notify()
            try:
                await self._serve(device, get)
                if refused is not None:
                    await self._refuse(device, refused, wire.BUSY, "too many requests at once")
            except LinkLost as error:
                log.debug("request of %s dropped: %s", device, error)
            except Exception as error:  # noqa: BLE001 - one device's answer; the others are served
                self._mishaps.note("answer", device, error)

    async def _serve(self, device: DeviceId, get: wire.Get) -> None:
        try:
            length, blocks = await asyncio.to_thread(self._read, get)
        except (Missing, Invalid) as error:
            await self._refuse(device, get.request, wire.MISSING, error.message)
            return
        except Exception as error:  # noqa: BLE001 - a bad sector, or a database that is away, is no reason to end
            self._mishaps.note("block", f"{get} of {device}", error)
            await self._refuse(device, get.request, wire.BUSY, "the server cannot read it now; ask again later")
            return
        if not blocks:
            await self._refuse(device, get.request, wire.MISSING, f"the blob ends at {length} bytes")
        topic = self._topics.blob(device, get.request)
        for number, data in blocks:
            await self._send(topic, wire.encode(wire.Block(get.request, wire.OK, number, length, data)))

    async def _refuse(self, device: DeviceId, request: int, status: int, reason: str) -> None:
        block = wire.Block(request, status, 0, 0, reason.encode())
        await self._send(self._topics.blob(device, request), wire.encode(block))

    def _read(self, get: wire.Get) -> tuple[int, list[tuple[int, bytes]]]:
        if isinstance(get, wire.BlobGet):
            return self._read_blocks(get.digest, get.numbers)
        data = self._read_metadata(get.name)
        starts = range(0, max(len(data), 1), BLOCK)
        return len(data), [(number, data[start : start + BLOCK]) for number, start in enumerate(starts)]
