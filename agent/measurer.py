"""Asks everybody who knows how a module behaves, and keeps what was measured in its slot's row.

Only where an order asks for it, and for as long as it says. What is asked are counts that are kept anyway; the samples
are asked once in a window, one after another, and never while something else is done to the slot.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from agent.answering import Told
from agent.clock import Clock
from agent.counted import counted
from agent.engines.contract import ContainerEngine
from agent.health import ask
from agent.measure import Gauge, Reading
from agent.shelf import Shelf
from agent.slots import Placed, Slot
from agent.store import Store
from hardware.system import System
from hardware.thermal import temperature
from modules.canonical import UNREADABLE
from modules.clipping import clipped
from modules.counted import Counted, Looked
from modules.errors import EdgefleetError
from modules.names import Slug
from modules.protocol.measured import MOST_SAMPLES, Measured
from modules.protocol.phases import Phase
from modules.samples import Sample, differences

# A window is read so often: memory's growth is a line through these readings.
_LOOKS: Final = 8
_APART_S: Final = (1.0, 60.0)
_STATUS_S: Final = 5.0
_STATUS_LIMIT: Final = 64 << 10
_SAMPLES_S: Final = 20.0
_ON_ITS_WAY: Final = frozenset(
    {Phase.ACCEPTED, Phase.FITTED, Phase.FETCHING, Phase.VERIFIED, Phase.STAGED, Phase.STARTING}
)
_log = logging.getLogger(__name__)


class _Status(msgspec.Struct, frozen=True):
    answers: Looked | None = None


class _Watch:
    """Who is measured in a slot, and when to look next (seconds of the boot)."""

    def __init__(self, placed: Placed, window_s: float) -> None:
        self.placed = placed
        self.window_s = window_s
        self.gauge = Gauge(window_s)
        self.next = 0.0

    def goes_on(self, placed: Placed, window_s: float) -> bool:
        return self.placed.instance == placed.instance and self.window_s == window_s


class Measurer:
    """Looks when it is time to; ``told`` is what the gateway says of itself, counts and all (None: it did not).

    ``busy`` says whether something is being done to a slot.
    """

    def __init__(
        self,
        *,
        store: Store,
        shelf: Shelf,
        engines: Mapping[str, ContainerEngine],
        told: Callable[[], Awaitable[Told | None]],
        clock: Clock,
        system: System | None = None,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._engines = engines
        self._told = told
        self._clock = clock
        self._system = system or System()
        self._watches: dict[Slug, _Watch] = {}

    def due(self, slots: tuple[Slot, ...]) -> float:
        """When to look next, in seconds of the boot; infinite where nothing is to be measured."""
        asked = [(slot, placed) for slot in slots if (placed := measured(slot))]
        for gone in self._watches.keys() - {slot.slot for slot, _ in asked}:
            del self._watches[gone]
        return min((self._due(slot, placed) for slot, placed in asked), default=math.inf)

    def _due(self, slot: Slot, placed: Placed) -> float:
        watch = self._watches.get(slot.slot)
        return watch.next if watch is not None and watch.goes_on(placed, _window_s(slot)) else 0.0

    async def look(self, slots: tuple[Slot, ...], busy: Callable[[Slug], bool]) -> None:
        """Read what is due; rows that change for it are saved."""
        now = self._clock.monotonic()
        asked = [(slot, placed) for slot in slots if (placed := measured(slot)) and self._due(slot, placed) <= now]
        if not asked:
            return
        counts = await self._counts()
        heat = await asyncio.to_thread(temperature, self._system)
        for slot, placed in asked:
            await self._look(slot, placed, counts, heat, busy)

    async def _look(
        self,
        slot: Slot,
        placed: Placed,
        counts: dict[str, Counted] | None,
        heat: float | None,
        busy: Callable[[Slug], bool],
    ) -> None:
        watch, window_s = self._watches.get(slot.slot), _window_s(slot)
        if slot.phase in {Phase.PROBATION, Phase.COMMITTED} and slot.target.watched.before is None:
            await self._keep_before(slot, watch, counts)
        if watch is None or not watch.goes_on(placed, window_s):
            watch = self._watches[slot.slot] = _Watch(placed, window_s)
        closed = watch.gauge.take(await self._read(placed, counts, heat))
        if closed is not None and slot.phase not in _ON_ITS_WAY:
            if slot.phase is Phase.COMMITTED:
                closed = await self._with_samples(slot, placed, closed, busy)
            self._keep(slot, placed, closed)
            # What the samples added to the server's counts is in no window.
            watch.gauge.begin(await self._read(placed, counts if not closed.samples else await self._counts(), heat))
        apart = min(max(window_s / _LOOKS, _APART_S[0]), _APART_S[1])
        now = self._clock.monotonic()
        watch.next = min(now + apart, max(watch.gauge.ends or 0.0, now))

    async def _keep_before(self, slot: Slot, watch: _Watch | None, counts: dict[str, Counted] | None) -> None:
        """Traffic has moved: what was measured of the one that had it is kept, for as long as it is compared with."""
        old = slot.current if slot.phase is Phase.PROBATION else None
        if watch is None and old is not None:
            watch = _Watch(old, _window_s(slot))  # the agent was started again meanwhile
        if watch is None or watch.placed.wanted == slot.wanted:
            return
        if old is not None and old.instance == watch.placed.instance:
            watch.gauge.take(await self._read(old, counts, None))
        before = watch.gauge.before()
        row = self._store.slot(slot.slot)
        if before is not None and row is not None and row.wanted == slot.wanted:
            watched = msgspec.structs.replace(row.target.watched, before=clipped(before))
            self._store.save(row.with_(watched=watched))

    def _keep(self, slot: Slot, placed: Placed, found: Measured) -> None:
        """Into the row, if it is still the same module's that was looked at."""
        row = self._store.slot(slot.slot)
        if row is None or row.target.measure != slot.target.measure or row.wanted != slot.wanted:
            return
        if (now := measured(row)) is None or now.instance != placed.instance:
            return
        known = row.target.watched
        watched = msgspec.structs.replace(known, measured=clipped(found), spent_s=known.spent_s + found.seconds)
        self._store.save(row.with_(watched=watched))

    async def _read(self, placed: Placed, counts: dict[str, Counted] | None, heat: float | None) -> Reading:
        seen = None if counts is None else counts.get(placed.instance, Counted())
        answers = await self._answers(placed)
        memory = await self._memory(placed)
        at = self._clock.monotonic()
        return Reading(at=at, seen=seen, answers=answers, memory_mb=memory, temperature_c=heat)

    async def _counts(self) -> dict[str, Counted] | None:
        told = await self._told()
        return None if told is None else counted(told)

    async def _answers(self, placed: Placed) -> Looked | None:
        """What its server says of its answers; one of before, or a module that says nonsense, says nothing."""
        answer = await ask(placed.socket, "GET", "/edgefleet/status", timeout_s=_STATUS_S, limit=_STATUS_LIMIT)
        if answer is None:
            return None
        try:
            return msgspec.json.decode(answer.body, type=_Status).answers
        except UNREADABLE:
            return None

    async def _memory(self, placed: Placed) -> float | None:
        try:
            usage = await self._engines[placed.wanted.engine].usage(placed.instance)
        except (EdgefleetError, KeyError):
            return None
        return None if usage is None else usage.memory_mb

    async def _with_samples(
        self, slot: Slot, placed: Placed, closed: Measured, busy: Callable[[Slug], bool]
    ) -> Measured:
        """Ask some of its samples again; of samples that something else came between, nothing is said."""
        asked = agree = 0
        try:
            samples = await asyncio.to_thread(self._samples, slot)
            async with asyncio.timeout(_SAMPLES_S):
                for sample in samples:
                    if busy(slot.slot):
                        return closed
                    asked += 1
                    agree += await self._agrees(placed, sample)
        except TimeoutError:
            pass  # the one that was asked last does not count as right
        except (EdgefleetError, OSError) as error:
            _log.debug("%s: its samples cannot be read: %s", slot.slot, error)
            return closed
        if busy(slot.slot):
            return closed
        return msgspec.structs.replace(closed, samples=asked, agree=agree)

    def _samples(self, slot: Slot) -> tuple[Sample, ...]:
        digest = slot.wanted.digest
        found = self._shelf.samples(digest, self._shelf.manifest(digest))
        return found.samples[:MOST_SAMPLES] if found else ()

    @staticmethod
    async def _agrees(placed: Placed, sample: Sample) -> bool:
        answer = await ask(
            placed.socket,
            sample.method,
            sample.path,
            body=sample.body,
            content_type=sample.content_type,
            timeout_s=_SAMPLES_S,
        )
        return answer is not None and not await asyncio.to_thread(differences, sample, answer.status, answer.body)


def measured(slot: Slot) -> Placed | None:
    """Whom the slot's order wants to be measured now: the wanted module once it serves, before that its predecessor."""
    measure = slot.target.measure
    if measure is None or slot.target.watched.spent_s >= measure.for_s:
        return None
    if slot.phase in {Phase.PROBATION, Phase.COMMITTED}:
        return slot.serving
    if slot.phase in _ON_ITS_WAY and slot.current is not None and slot.current.wanted != slot.wanted:
        return slot.current
    return None


def _window_s(slot: Slot) -> float:
    return float(slot.target.measure.window_s) if slot.target.measure else 0.0
