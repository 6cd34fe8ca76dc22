"""Broadcasts: a block that several devices wait for is published once, and the broker fans it out.

Devices that could take part are invited as soon as a second one wants the blob, or a wave says that more will. What
goes out when is decided in ``fleet/pack.py``. Whatever is not for a broadcast is answered by the publisher of pulls, as
ever: of older devices, of devices with a limit of their own, of blobs that confidential modules name, and of devices
whose orders do not name the blob.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from fleet.demand import Demand
from fleet.limits import Limits
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.pack import Pack, Turn
from fleet.rights import Checked
from modules.digests import BLOCK
from modules.errors import LinkLost
from modules.names import DeviceId, Digest
from modules.protocol import blobs as wire
from modules.protocol.topics import Topics

log = logging.getLogger(__name__)

# Requests that wait to be sorted, and blobs that are broadcast at a time; the others are pulled.
WAITING: Final = 20_000
PACKS: Final = 64
# A blob that a wave shares is asked for again within this time; and a module that makes it confidential is seen.
FRESH_S: Final = 2.0
LOOK_UP_S: Final = 5.0
# What the devices of one broadcast may leave in the broker together, and blocks that each may be asked to wait for.
AHEAD_BYTES: Final = 256 << 20
LEAST_AHEAD, MOST_AHEAD = 2, 16
CLEAR_EVERY_S: Final = 1.0
# Requests come in hundreds: they are looked at together.
_LOOK_EVERY_S: Final = 0.01
_KEPT: Final = 1000

Send = Callable[[str, bytes], Awaitable[None]]
EndSession = Callable[[DeviceId], Awaitable[None]]
ReadBlocks = Callable[[Digest, list[int]], tuple[int, list[tuple[int, bytes]]]]
Answer = Callable[[DeviceId, wire.BlobGet], Awaitable[None]]


class Broadcaster:
    """Takes the requests of devices that could take part, and either invites, gathers, or hands them to ``answer``."""

    def __init__(
        self,
        *,
        topics: Topics,
        send: Send,
        read_blocks: ReadBlocks,
        demand: Callable[[Digest], Demand | None],
        end_session: EndSession,
        rights: Checked,
        limits: Limits,
        meters: Meters,
        mishaps: Mishaps,
    ) -> None:
        self._topics, self._send, self._read_blocks = topics, send, read_blocks
        self._end_session, self._rights = end_session, rights
        self._demand, self._limits, self._meters, self._mishaps = demand, limits, meters, mishaps
        self._inbox: deque[tuple[DeviceId, wire.BlobGet]] = deque()
        self._arrived, self._asked = asyncio.Event(), asyncio.Event()
        self._packs: dict[Digest, Pack] = {}
        self._known: dict[Digest, tuple[float, Demand | None]] = {}
        self._first: dict[Digest, tuple[DeviceId, float]] = {}

    def take(self, device: DeviceId, get: wire.BlobGet) -> bool:
        """Whether this request is answered here; it is, in a moment."""
        if len(self._inbox) >= WAITING:
            return False
        self._inbox.append((device, get))
        self._arrived.set()
        return True

    async def run(self, answer: Answer) -> None:
        """For ever. ``answer`` queues a request to be answered by its device's own topic."""
        self._packs.clear()  # of an earlier lead
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sorting(answer), name="broadcasts-sort")
            group.create_task(self._sending(answer), name="broadcasts-send")
            group.create_task(self._clearing(), name="broadcasts-clear")

    async def _sorting(self, answer: Answer) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._inbox:
                device, get = self._inbox.popleft()
                try:
                    if not await self._joined(device, get):
                        await answer(device, get)
                except LinkLost as error:
                    log.debug("request of %s dropped: %s", device, error)
                except Exception as error:  # noqa: BLE001 - one device's request; the others are sorted
                    self._mishaps.note("broadcast", device, error)

    async def _joined(self, device: DeviceId, get: wire.BlobGet) -> bool:
        """Invite the device, or let it wait with the others; False: it is answered by itself."""
        if get.shared == wire.LEFT:
            if left := self._packs.get(get.digest):
                left.leave(device)
                self._asked.set()
            return True
        demand = await self._look_up(get.digest)
        if demand is None or await self._limits.of(device) is not None or not await self._may(device, get.digest):
            return False
        pack, now = self._packs.get(get.digest), time.monotonic()
        if get.shared == wire.COULD:
            if pack is None and demand.devices < 2 and not self._second(device, get.digest, now):  # noqa: PLR2004 - two
                return False
            devices = max(demand.devices, len(pack.members) if pack else 0)
            ahead = min(max(AHEAD_BYTES // BLOCK // max(devices, 1), LEAST_AHEAD), MOST_AHEAD)
            invitation = wire.Block(get.request, wire.INVITED, ahead, demand.length, b"")
            await self._send(self._topics.blob(device, get.request), wire.encode(invitation))
            return True
        if pack is None:
            if len(self._packs) >= PACKS:
                return False
            pack = self._packs[get.digest] = Pack(demand.length, demand.devices, now)
        pack.expected = demand.devices
        if not pack.ask(device, get, now):
            return False
        self._asked.set()
        return True

    async def _may(self, device: DeviceId, blob: Digest) -> bool:
        """Whether it may have the blob; where nobody knows, it is answered by itself, and told so."""
        try:
            return await self._rights.may(device, blob, (one for one, _ in self._inbox))
        except Exception as error:  # noqa: BLE001 - as for what is known of the blob
            log.debug("%s is not invited: %s", device, error)
            return False

    def _second(self, device: DeviceId, blob: Digest, now: float) -> bool:
        """Whether another device has just asked for this blob, too."""
        other, at = self._first.pop(blob, (device, now))
        self._first[blob] = (device, now)
        if len(self._first) > _KEPT:
            self._first.pop(next(iter(self._first)))
        return other != device and now - at < FRESH_S

    async def _look_up(self, blob: Digest) -> Demand | None:
        """What is known of a blob; where the database does not answer in time, it is not broadcast."""
        read, demand = self._known.pop(blob, (float("-inf"), None))
        if time.monotonic() - read > FRESH_S:
            demand = None
            try:
                async with asyncio.timeout(LOOK_UP_S):
                    demand = await asyncio.to_thread(self._demand, blob)
            except TimeoutError:
                log.debug("%s is not broadcast: the database does not answer", blob)
            except Exception as error:  # noqa: BLE001 - what cannot be known to be shareable is not shared
                self._mishaps.note("broadcast", blob, error)
            read = time.monotonic()
        self._known[blob] = (read, demand)
        if len(self._known) > _KEPT:
            self._known.pop(next(iter(self._known)))
        return demand

    async def _sending(self, answer: Answer) -> None:
        while True:
            self._asked.clear()
            wakes: list[float] = []
            sent = False
            for blob, pack in list(self._packs.items()):
                now = time.monotonic()
                turn = pack.turn(now)
                if isinstance(turn, Turn):
                    sent = True
                    with self._mishaps.alone("broadcast", blob):
                        await self._go(blob, turn, pack, answer)
                elif turn is not None:
                    wakes.append(turn)
                elif pack.over(now):
                    del self._packs[blob]
            if not sent:
                wait = min(wakes, default=time.monotonic() + FRESH_S) - time.monotonic()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(wait, _LOOK_EVERY_S)):
                        await self._asked.wait()
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _clearing(self) -> None:
        """End the sessions of devices that have died in the middle, or hang: the broker would keep blocks for them."""
        while True:
            await asyncio.sleep(CLEAR_EVERY_S)
            for blob, pack in list(self._packs.items()):
                for device in pack.dead(time.monotonic()):
                    pack.leave(device)
                    log.info("%s takes part in a broadcast and is silent: its session is ended", device)
                    with self._mishaps.alone("broadcast", blob), contextlib.suppress(LinkLost):
                        await self._end_session(device)

    async def _go(self, blob: Digest, turn: Turn, pack: Pack, answer: Answer) -> None:
        if not turn.to_all:
            for device, (request, numbers) in turn.requests.items():
                await answer(device, asking(blob, request, numbers))
            return
        if await self._look_up(blob) is None:
            # A module that makes it confidential has come meanwhile: whoever waits asks again, and is answered alone.
            self._packs.pop(blob, None)
            return
        try:
            length, blocks = await asyncio.to_thread(self._read_blocks, blob, [turn.number])
            await self._limits.pass_on(pack.size_of(turn.number))
            topic = self._topics.shared_blob(blob)
            for number, data in blocks:
                # Its announcement first, and at once the block: the time between them is the device's link alone.
                await self._send(topic, wire.encode(wire.Shared(number, length)))
                await self._send(topic, wire.encode(wire.Shared(number, length, data)))
                self._meters.block(len(data), "to_all")
        except LinkLost as error:
            log.debug("a block of %s was not broadcast: %s", blob, error)


def asking(blob: Digest, request: int, numbers: list[int]) -> wire.BlobGet:
    """A request for some of the blocks that an earlier one asked for, by its number."""
    mask = sum(1 << (number - numbers[0]) for number in numbers)
    return wire.BlobGet(request=request, digest=blob, first=numbers[0], mask=mask)
