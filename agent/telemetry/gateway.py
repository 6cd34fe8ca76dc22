"""What applications saw at the gateway, slot by slot, and when a slot begins or ends to have more to do than it can.

Looks are minutes apart. Between two of them the gateway may be watched: what begins then is told at once, for an
endpoint may have to be started, and in figures of its own, for in those of many minutes it would not be seen.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final, NamedTuple

import msgspec

from agent.answering import Told
from agent.clock import Clock
from agent.telemetry.looks import Look, rounded
from modules.bounds import Count, Word
from modules.counted import Counted
from modules.latencies import percentile_ms
from modules.names import Slug, SlugField
from modules.protocol.order import MAX_SLOTS
from modules.protocol.telemetry import BY_CLOUD, PRESSED, STARTS_AT, too_much

# So long it has to last, watch after watch: a burst of a few seconds starts nothing.
_LASTS_S: Final = 10.0
# So long nothing of it may be seen before it is told that it is over: who goes to and fro faster has too much to do.
_CALM_S: Final = 120.0
# While it lasts it is told again, for what was said ten minutes ago counts no more.
_AGAIN_S: Final = 300.0


class _Slot(msgspec.Struct, frozen=True):
    """One slot as the gateway tells of it; what listens at its address may be anything, so all is bounded."""

    slot: SlugField
    counts: Annotated[dict[str, Counted], msgspec.Meta(max_length=16)] = {}
    answered: Annotated[dict[Word, Count], msgspec.Meta(max_length=16)] = {}
    pressed: Annotated[dict[Word, Count], msgspec.Meta(max_length=16)] = {}


class _Reading(NamedTuple):
    """What the gateway said at a moment of the boot."""

    at: float
    slots: dict[Slug, _Slot]

    def since(self, before: "_Reading", slot: Slug) -> dict[str, float]:
        """The figures of a slot between two readings."""
        return _seen(before.slots.get(slot), self.slots[slot], self.at - before.at)


class Gateway:
    """``told`` is what the gateway says of itself (None: it does not)."""

    def __init__(self, told: Callable[[], Awaitable[Told | None]], clock: Clock) -> None:
        self._told, self._clock = told, clock
        # At the last look, and at the last look or watch.
        self._before: _Reading | None = None
        self._watched: _Reading | None = None
        # Since when each watch has seen that a slot has too much to do, and until when one saw anything of it.
        self._from: dict[Slug, _Reading] = {}
        self._until: dict[Slug, _Reading] = {}
        # What the last look said of each slot, and when it was last said at once.
        self._said: dict[Slug, Mapping[str, float]] = {}
        self._told_at = 0.0
        #: whether what the last look saw is to be sent at once
        self.urgent = False

    async def look(self) -> list[Look]:
        """Counts since the last look; of the first one, nothing."""
        return self._looked(await self._read())

    async def watch(self, *, may_tell: bool) -> list[Look]:
        """A look where it ``may_tell`` something that should not wait for the next one; else nothing."""
        reading, watched = await self._read(), self._watched
        self._watched = reading
        if self._before is None:
            self._before = reading  # it did not answer at the last look, as where it starts after the agent
        if reading is None or watched is None or self._before is None:
            self._from.clear()
            self._until.clear()
            return []
        for slot in reading.slots:
            self._note(slot, watched, reading)
        for gone in (self._from.keys() | self._until.keys()) - reading.slots.keys():
            self._from.pop(gone, None)
            self._until.pop(gone, None)
        return self._looked(reading) if may_tell and self._must_tell(reading, self._before) else []

    async def _read(self) -> _Reading | None:
        told = await self._told()
        return None if told is None else _Reading(self._clock.monotonic(), _slots(told))

    def _looked(self, reading: _Reading | None) -> list[Look]:
        before, needing = self._before, self._needing()
        self.urgent, self._before = False, reading
        if reading is None:
            self._said.clear()
            return [Look(None, {"up": 0.0})]
        if before is None:
            return []
        earlier, looks = [], []
        for slot in sorted(reading.slots):
            turn = self._turn(slot, reading, before) or before
            if turn.at > before.at and slot in turn.slots:
                earlier.append(Look(slot, turn.since(before, slot), turn.at))
            else:
                turn = before
            looks.append(Look(slot, reading.since(turn, slot)))
        self._said = {one.slot: one.figures for one in looks if one.slot is not None}
        self.urgent = self._needing() != needing or self._is_due(reading)
        if self.urgent:
            self._told_at = reading.at
        return sorted(earlier, key=lambda one: one.at or 0.0) + looks

    def _must_tell(self, reading: _Reading, before: _Reading) -> bool:
        return self._is_due(reading) or any(self._turn(slot, reading, before) for slot in reading.slots)

    def _is_due(self, reading: _Reading) -> bool:
        """Whether it is to be said again who needs an endpoint."""
        return bool(self._needing()) and reading.at - self._told_at >= _AGAIN_S

    def _note(self, slot: Slug, before: _Reading, reading: _Reading) -> None:
        figures = reading.since(before, slot)
        if too_much(figures) >= STARTS_AT:
            self._from.setdefault(slot, before)
        else:
            self._from.pop(slot, None)
        if _needs(figures):
            self._until[slot] = reading

    def _turn(self, slot: Slug, now: _Reading, before: _Reading) -> _Reading | None:
        """When it began to have too much to do, or ended to, if that was not said yet and is certain by now."""
        said = self._said.get(slot, {})
        began = self._from.get(slot)
        if began is not None and now.at - began.at >= _LASTS_S and too_much(said) < STARTS_AT:
            return began
        ended = self._until.get(slot, before)
        return ended if _needs(said) and now.at - ended.at >= _CALM_S else None

    def _needing(self) -> dict[Slug, bool]:
        """The slots that need an endpoint, each with whether one is started for it."""
        return {slot: too_much(said) >= STARTS_AT for slot, said in self._said.items() if _needs(said)}


def _needs(figures: Mapping[str, float]) -> bool:
    """Whether a slot's requests went to an endpoint, or would have had to: then the fleet keeps one running."""
    return any(figures.get(name) for name in (*PRESSED, BY_CLOUD))


def _slots(told: Told) -> dict[Slug, _Slot]:
    found: dict[Slug, _Slot] = {}
    for one in told.slots[:MAX_SLOTS]:
        try:
            slot = msgspec.convert(one, _Slot)
        except msgspec.ValidationError:
            continue
        found[slot.slot] = slot
    return found


def _seen(before: _Slot | None, now: _Slot, seconds: float) -> dict[str, float]:
    """What one slot's applications saw between two looks: of the instances that are still there."""
    latencies: dict[int, int] = {}
    requests = errors = 0
    for instance, counted in now.counts.items():
        then = before.counts.get(instance, Counted()) if before else Counted()
        if counted.requests < then.requests:
            then = Counted()  # it was started again, and so counts anew
        requests += counted.requests - then.requests
        errors += max(counted.errors - then.errors, 0)
        for number, count in counted.latencies:
            latencies[number] = latencies.get(number, 0) + count
        for number, count in then.latencies:
            latencies[number] = latencies.get(number, 0) - count
    figures = {"seconds": seconds, "requests": float(requests), "errors": float(errors)}
    known = {number: count for number, count in latencies.items() if count > 0}
    for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95)):
        if (value := percentile_ms(known, share)) is not None:
            figures[name] = value
    for name, who in ((BY_CLOUD, "fallback"), ("unanswered", "nobody")):
        figures[name] = _since(before.answered if before else {}, now.answered, who)
    for name in PRESSED:
        figures[name] = _since(before.pressed if before else {}, now.pressed, name)
    return rounded(figures)


def _since(before: Mapping[str, int], now: Mapping[str, int], name: str) -> float:
    """How much was counted since; of counts that went back, for they begin anew, all."""
    count, then = now.get(name, 0), before.get(name, 0)
    return float(count - then if count >= then else count)
