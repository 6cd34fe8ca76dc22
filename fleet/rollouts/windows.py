"""What is counted of a version while an endpoint's requests are moved to it: readings in, windows out. Pure.

A device counts in one place; an endpoint has a gateway or two, and replicas, and each may begin anew at any time. So
each is a life of its own: what it has counted since the last reading is added, and of one whose counts went back, or
that is new, all of it. Nothing is lost but what somebody counted between the last reading and its end, or before it
said anything though it was there; and of a life that has outgrown in everything the one before, which is taken for it,
as much as that one had. No count is counted twice.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from fleet.targets.contract import Life
from modules.counted import Counted, Looked
from modules.latencies import percentile_ms
from modules.protocol.measured import Measured

# Readings that are remembered; of more, those that were heard of last.
_MOST: Final = 256


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What has come of one version since ``begun`` (Unix seconds), and the newest reading of each life.

    ``restarts`` are those since the first reading, whatever window they fell into. ``told``: somebody has counted.
    """

    begun: float = 0.0
    last: dict[str, Life] = {}
    told: bool = False
    requests: int = 0
    errors: int = 0
    latencies: dict[int, int] = {}
    looked: int = 0
    nan: int = 0
    empty: int = 0
    values: tuple[int, ...] = ()
    restarts: int = 0
    memory_mb: float | None = None


def anew(window: Window, now: float) -> Window:
    """The next window, which begins now."""
    return Window(begun=now, last=window.last, restarts=window.restarts)


def take(window: Window, lives: Mapping[str, Life], memory_mb: float | None) -> Window:
    """The window with one more reading; the very first says from where to count."""
    first, last = not window.last, dict(window.last)
    for name, life in lives.items():
        there, known = name in last, last.pop(name, Life())
        # Who says nothing just now goes on from what was said last.
        heard = Life(
            seen=life.seen or known.seen,
            answers=life.answers or known.answers,
            restarts=known.restarts if life.restarts is None else life.restarts,
        )
        if there and known.seen is None:
            # It was there before, and is heard for the first time: what it counted until now may be of any time.
            known = msgspec.structs.replace(known, seen=life.seen)
        if not first:
            window = _added(window, known, heard)
        last[name] = heard
    told = window.told or any(one.seen is not None for one in lives.values())
    memory = window.memory_mb if memory_mb is None else memory_mb
    return msgspec.structs.replace(window, last=dict(list(last.items())[-_MOST:]), told=told, memory_mb=memory)


def measured(window: Window, now: float) -> Measured:
    """The window as a device would report it."""
    return Measured(
        seconds=max(0.0, now - window.begun),
        requests=window.requests,
        errors=min(window.errors, window.requests),
        p50_ms=percentile_ms(window.latencies, 0.5),
        p95_ms=percentile_ms(window.latencies, 0.95),
        answers=window.looked,
        nan=min(window.nan, window.looked),
        empty=min(window.empty, window.looked),
        values=window.values if any(window.values) else (),
        memory_mb=None if window.memory_mb is None else round(window.memory_mb),
    )


def _added(window: Window, before: Life, now: Life) -> Window:
    seen, looked, restarts = now.seen or Counted(), now.answers or Looked(), now.restarts or 0
    then = before.seen if before.seen is not None and _goes_on(before.seen, seen) else Counted()
    started = before.restarts if before.restarts is not None and before.restarts <= restarts else 0
    spoke = before.answers if before.answers is not None and _answers_on(before.answers, looked) else Looked()
    return msgspec.structs.replace(
        window,
        requests=window.requests + seen.requests - then.requests,
        errors=window.errors + seen.errors - then.errors,
        latencies=_summed(window.latencies, dict(seen.latencies), dict(then.latencies)),
        looked=window.looked + looked.looked - spoke.looked,
        nan=window.nan + looked.nan - spoke.nan,
        empty=window.empty + looked.empty - spoke.empty,
        values=_values(window.values, looked.values, spoke.values),
        restarts=window.restarts + restarts - started,
    )


def _goes_on(before: Counted, now: Counted) -> bool:
    then, since = dict(before.latencies), dict(now.latencies)
    return (
        now.seconds >= before.seconds
        and now.requests >= before.requests
        and now.errors >= before.errors
        and all(since.get(number, 0) >= count for number, count in then.items())
    )


def _answers_on(before: Looked, now: Looked) -> bool:
    longer = len(before.values) <= len(now.values)
    counts = all(getattr(now, name) >= getattr(before, name) for name in ("looked", "nan", "empty"))
    return counts and longer and all(a >= b for a, b in zip(now.values, before.values, strict=False))


def _summed(total: Mapping[int, int], now: Mapping[int, int], then: Mapping[int, int]) -> dict[int, int]:
    numbers = sorted(total.keys() | now.keys())
    found = {one: total.get(one, 0) + now.get(one, 0) - then.get(one, 0) for one in numbers}
    return {one: count for one, count in found.items() if count}


def _values(total: Sequence[int], now: Sequence[int], then: Sequence[int]) -> tuple[int, ...]:
    length = max(len(total), len(now))
    padded = ([*each, *[0] * (length - len(each))] for each in (total, now, then))
    return tuple(a + b - c for a, b, c in zip(*padded, strict=True))
