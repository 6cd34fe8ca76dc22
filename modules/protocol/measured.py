"""What a device measures of a module while it serves: for the gates of a rollout. A part of ``up/report``.

Counts are of one window, which the device closes and replaces; they say nothing of single requests. Everything is
bounded: a sketch is some hundred bytes, whatever was answered.
"""

import math
from typing import Annotated, Final

import msgspec

from modules.bounds import Count, Mebibytes, Real

# A histogram over signed powers of two, from 2^-15 to 2^15 in both directions, with zero in the middle.
SPAN: Final = 15
BINS: Final = 2 * (2 * SPAN + 2) + 1
# Share of values that an empty bin counts as, so that a bin that was never met gives a finite distance.
_FLOOR: Final = 1e-4

Sketch = Annotated[tuple[Count, ...], msgspec.Meta(max_length=BINS)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One window of one module in one slot.

    ``requests`` and ``errors`` (answers of 500 and above, and none) and the latencies in milliseconds are those that
    applications saw at the gateway. ``answers`` were looked at by the module's server, of which ``nan`` had a number
    that is none and ``empty`` had none; ``values`` is the sketch of their numbers. ``samples`` were asked again while
    it served, of which ``agree`` gave the reference's answer. Memory in MiB, its growth in MiB an hour since it served.
    """

    seconds: Seconds
    requests: Count = 0
    errors: Count = 0
    p50_ms: Milliseconds | None = None
    p95_ms: Milliseconds | None = None
    answers: Count = 0
    nan: Count = 0
    empty: Count = 0
    values: Sketch = ()
    samples: Count = 0
    agree: Count = 0
    memory_mb: Mebibytes | None = None
    memory_growth_mb_h: Real | None = None
    temperature_c: Real | None = None


def bin_of(value: float) -> int:
    """The bin of the sketch that a finite number falls into: by sign and power of two."""
    if value == 0:
        return BINS // 2
    power = max(-SPAN - 1, min(SPAN, math.floor(math.log2(abs(value)))))
    away = power + SPAN + 2  # 1 for the smallest
    return BINS // 2 + (away if value > 0 else -away)


def distance(one: Sketch, other: Sketch) -> float:
    """Population stability index of two sketches: 0 for the same shares, above 0.25 by custom a large change.

    The sum over bins of (p - q) * ln(p / q); as used for credit scores since Lewis, *An Introduction to Credit
    Scoring*, 1994.
    """
    total_one, total_other = sum(one), sum(other)
    if not total_one or not total_other:
        return 0.0
    found = 0.0
    for a, b in zip(one, other, strict=False):
        if a or b:
            p, q = max(a / total_one, _FLOOR), max(b / total_other, _FLOOR)
            found += (p - q) * math.log(p / q)
    return found
