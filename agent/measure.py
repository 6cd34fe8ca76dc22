"""What was measured of a module: readings of counts that only grow, in; windows, out. Pure.

Whoever counts may begin anew: a module or a gateway that was started again counts from zero. A count that has gone back
begins the window anew, so that no window has numbers of two lives.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from modules.counted import Counted, Looked
from modules.latencies import percentile_ms
from modules.protocol.measured import Measured

# Readings of memory that a slope is drawn through; beyond it every other one is dropped.
_MOST_POINTS: Final = 128
_HOUR_S: Final = 3600.0


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at an instance, in seconds of the boot; None: whoever knows it did not say."""

    at: float
    seen: Counted | None = None
    answers: Looked | None = None
    memory_mb: float | None = None
    temperature_c: float | None = None


class Gauge:
    """Measures one instance, window after window."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._begin: Reading | None = None
        self._last: Reading | None = None
        self._closed: Measured | None = None
        self._memory: list[tuple[float, float]] = []

    @property
    def ends(self) -> float | None:
        """When the window that was begun ends, in seconds of the boot."""
        return None if self._begin is None else self._begin.at + self._window_s

    def begin(self, reading: Reading) -> None:
        """A window begins now."""
        self._begin = self._last = reading

    def take(self, reading: Reading) -> Measured | None:
        """One more reading; the window that it closes."""
        if reading.memory_mb is not None:
            self._memory.append((reading.at, reading.memory_mb))
            if len(self._memory) > _MOST_POINTS:
                # The first and the newest stay.
                self._memory = [*self._memory[:-1:2], self._memory[-1]]
        begun, self._last = self._begin, reading
        found = None if begun is None else self._between(begun, reading)
        if begun is None or found is None:
            self._begin = reading
            return None
        if found.seconds < self._window_s:
            return None
        self._begin, self._closed = reading, found
        return found

    def before(self) -> Measured | None:
        """What is known of it when it is replaced: its last window, else its whole life as far as it was counted."""
        if self._closed is not None or self._last is None:
            return self._closed
        seconds = self._last.seen.seconds if self._last.seen else 0.0
        return self._between(Reading(at=self._last.at - seconds, seen=Counted(), answers=Looked()), self._last)

    def _between(self, begin: Reading, end: Reading) -> Measured | None:
        """The window between two readings; None where a count has gone back."""
        requests = errors = looked = nan = empty = 0
        latencies: dict[int, int] = {}
        values: tuple[int, ...] = ()
        if begin.seen and end.seen:
            requests, errors = end.seen.requests - begin.seen.requests, end.seen.errors - begin.seen.errors
            latencies = dict(end.seen.latencies)
            for number, count in begin.seen.latencies:
                latencies[number] = latencies.get(number, 0) - count
        if begin.answers and end.answers:
            looked, nan, empty = (
                getattr(end.answers, name) - getattr(begin.answers, name) for name in ("looked", "nan", "empty")
            )
            values = _difference(end.answers.values, begin.answers.values)
        if min(requests, errors, looked, nan, empty, *latencies.values(), *values) < 0:
            return None
        memory, heat = end.memory_mb, end.temperature_c
        return Measured(
            seconds=end.at - begin.at,
            requests=requests,
            errors=min(errors, requests),
            p50_ms=percentile_ms(latencies, 0.5),
            p95_ms=percentile_ms(latencies, 0.95),
            answers=looked,
            nan=min(nan, looked),
            empty=min(empty, looked),
            values=values if any(values) else (),
            memory_mb=None if memory is None else round(memory),
            memory_growth_mb_h=slope(self._memory),
            temperature_c=heat,
        )


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """How fast it grows, in units an hour, by least squares; None where there is nothing to draw a line through."""
    if len(points) < 2 or points[-1][0] <= points[0][0]:  # noqa: PLR2004 - a line
        return None
    middle = sum(at for at, _ in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return round(sum((at - middle) * value for at, value in points) / spread * _HOUR_S, 3)


def _difference(end: Sequence[int], begin: Sequence[int]) -> tuple[int, ...]:
    if not begin:
        return tuple(end)
    return tuple(a - b for a, b in zip([*end, *[0] * (len(begin) - len(end))], begin, strict=False))
