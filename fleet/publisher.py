"""Answers pulls: blocks of blobs and TUF metadata files, fairly among the devices that ask.

The device's window is the flow control; here only the number of requests that wait per device is bounded. Devices take
turns, one request each. Blocks go out with QoS 0: what gets lost is asked for again. A device that has a limit of its
own takes its turns block by block, with rests between; and where all together have one, no more devices are let in than
it can serve while they wait: the others are told to ask later. A blob that its orders do not name (fleet/rights.py) is
missing, for a device.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from fleet.broadcast import Broadcaster, asking
from fleet.limits import Limits
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.refusals import Missing
from fleet.rights import Checked
from modules.digests import BLOCK
from modules.errors import Invalid, LinkLost
from modules.names import DeviceId, Digest
from modules.protocol import blobs as wire
from modules.protocol.topics import Topics

log = logging.getLogger(__name__)

WAITING_PER_DEVICE: Final = 8
# A device waits for a block a little longer than this.
LONGEST_QUEUE_S: Final = 3.0

Send = Callable[[str, bytes], Awaitable[None]]
ReadBlocks = Callable[[Digest, list[int]], tuple[int, list[tuple[int, bytes]]]]
ReadMetadata = Callable[[str], bytes]


@dataclass
class _Turn:
    """What one device waits for."""

    requests: deque[wire.Get] = field(default_factory=deque)


class Publisher:
    """Queues requests per device and serves them from a few workers."""

    def __init__(
        self,
        *,
        topics: Topics,
        send: Send,
        read_blocks: ReadBlocks,
        read_metadata: ReadMetadata,
        rights: Checked,
        workers: int,
        mishaps: Mishaps,
        meters: Meters | None = None,
        limits: Limits | None = None,
        broadcasts: Broadcaster | None = None,
    ) -> None:
        self._topics, self._send = topics, send
        self._read_blocks, self._read_metadata = read_blocks, read_metadata
        self._rights = rights
        self._workers = workers
        self._mishaps = mishaps
        self._meters, self._limits = meters or Meters(), limits or Limits()
        self._broadcasts = broadcasts
        self._turns: OrderedDict[DeviceId, _Turn] = OrderedDict()
        self._resting: dict[DeviceId, _Turn] = {}
        # The last request of each device that found no room.
        self._refused: OrderedDict[DeviceId, int] = OrderedDict()
        self._queued = 0
        self._work = asyncio.Condition()

    async def take(self, device: DeviceId, payload: bytes) -> None:
        """Queue a request; an unreadable one is dropped, because it names nothing that could be answered."""
        try:
            get = wire.decode_get(payload)
        except Invalid as error:
            log.info("request of %s ignored: %s", device, error)
            return
        if isinstance(get, wire.BlobGet) and get.shared and self._broadcasts and self._broadcasts.take(device, get):
            return
        if not isinstance(get, wire.BlobGet) or get.shared != wire.LEFT:
            await self.queue(device, get)

    async def queue(self, device: DeviceId, get: wire.Get) -> None:
        """Let a request wait for its turn; where there is no room, its device is told to ask later."""
        async with self._work:
            turn = self._resting.get(device) or self._turns.get(device) or _Turn()
            if len(turn.requests) >= WAITING_PER_DEVICE or self._limits.takes_s(self._queued) > LONGEST_QUEUE_S:
                self._refused[device] = get.request
            else:
                turn.requests.append(get)
                self._queued += _size(get)
                if device not in self._resting:
                    self._turns.setdefault(device, turn)
            self._work.notify()

    async def run(self) -> None:
        """Serve for ever."""
        # Of an earlier lead: nobody would end their rest any more.
        self._turns |= {device: turn for device, turn in self._resting.items() if turn.requests}
        self._resting.clear()
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._worker(group), name=f"blocks-{number}")
            if self._broadcasts is not None:
                group.create_task(self._broadcasts.run(self.queue), name="broadcasts")

    async def _worker(self, group: asyncio.TaskGroup) -> None:
        while True:
            async with self._work:
                await self._work.wait_for(lambda: self._turns or self._refused)
                refused = self._refused.popitem(last=False) if self._refused else None
                device, turn = self._turns.popitem(last=False) if self._turns else (None, _Turn())
                if device is not None:
                    self._resting[device] = turn
            if refused is not None:
                await self._guarded(refused[0], self._refuse(*refused, wire.BUSY, "too many requests at once"))
            if device is not None:
                await self._take_turn(device, turn, group)

    async def _take_turn(self, device: DeviceId, turn: _Turn, group: asyncio.TaskGroup) -> None:
        """Serve the device's oldest request, or one block of it where the device has a limit."""
        limit = await self._limits.of(device)
        get = turn.requests.popleft()
        self._queued -= _size(get)
        if limit is not None and isinstance(get, wire.BlobGet) and len(get.numbers) > 1:
            first, *rest = get.numbers
            get, left = asking(get.digest, get.request, [first]), asking(get.digest, get.request, rest)
            turn.requests.appendleft(left)
            self._queued += _size(left)
        if limit is None:
            await self._rested(device, turn)  # before it is served: another worker may serve it, too
        served = await self._guarded(device, self._serve(device, get))
        if limit is not None:
            group.create_task(self._rest(device, turn, limit.take(served)), name=f"rest-{device}")

    async def _rest(self, device: DeviceId, turn: _Turn, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._rested(device, turn)

    async def _rested(self, device: DeviceId, turn: _Turn) -> None:
        """The device has its next turn, at the end: everyone else is served first."""
        async with self._work:
            self._resting.pop(device, None)
            if turn.requests:
                self._turns[device] = turn
                self._work.notify()

    async def _guarded(self, device: DeviceId, work: Awaitable[int]) -> int:
        """The bytes of blocks that went out."""
        try:
            return await work
        except LinkLost as error:
            log.debug("request of %s dropped: %s", device, error)
        except Exception as error:  # noqa: BLE001 - one device's answer; the others are served
            self._mishaps.note("answer", device, error)
        return 0

    async def _serve(self, device: DeviceId, get: wire.Get) -> int:
        try:
            if isinstance(get, wire.BlobGet):
                await self._rights.check(device, get.digest, self._turns)
            length, blocks = await asyncio.to_thread(self._read, get)
        except (Missing, Invalid) as error:
            return await self._refuse(device, get.request, wire.MISSING, error.message)
        except Exception as error:  # noqa: BLE001 - a bad sector, or a database that is away, is no reason to end
            self._mishaps.note("block", f"{get} of {device}", error)
            return await self._refuse(device, get.request, wire.BUSY, "the server cannot read it now; ask again later")
        if not blocks:
            await self._refuse(device, get.request, wire.MISSING, f"the blob ends at {length} bytes")
        topic = self._topics.blob(device, get.request)
        for number, data in blocks:
            await self._limits.pass_on(len(data))
            await self._send(topic, wire.encode(wire.Block(get.request, wire.OK, number, length, data)))
            self._meters.block(len(data), "asked")
        return sum(len(data) for _, data in blocks)

    async def _refuse(self, device: DeviceId, request: int, status: int, reason: str) -> int:
        block = wire.Block(request, status, 0, 0, reason.encode())
        await self._send(self._topics.blob(device, request), wire.encode(block))
        return 0

    def _read(self, get: wire.Get) -> tuple[int, list[tuple[int, bytes]]]:
        if isinstance(get, wire.BlobGet):
            return self._read_blocks(get.digest, get.numbers)
        data = self._read_metadata(get.name)
        starts = range(0, max(len(data), 1), BLOCK)
        return len(data), [(number, data[start : start + BLOCK]) for number, start in enumerate(starts)]


def _size(get: wire.Get) -> int:
    """About how many bytes it asks for."""
    return len(get.numbers) * BLOCK if isinstance(get, wire.BlobGet) else BLOCK
