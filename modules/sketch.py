"""A sketch of numbers: how many fell into each of a fixed row of bins, and how far two sketches are apart.

It says how answers are spread without saying any of them: some hundred bytes, whatever was answered.
"""

import math
from collections.abc import Sequence
from typing import Final

# A histogram over signed powers of two, from 2^-15 to 2^15 in both directions, with zero in the middle.
SPAN: Final = 15
BINS: Final = 2 * (2 * SPAN + 2) + 1
# Share of values that an empty bin counts as, so that a bin that was never met gives a finite distance.
_FLOOR: Final = 1e-4


def bin_of(value: float) -> int:
    """The bin of the sketch that a finite number falls into: by sign and power of two."""
    if value == 0:
        return BINS // 2
    power = max(-SPAN - 1, min(SPAN, math.frexp(value)[1] - 1))
    away = power + SPAN + 2  # 1 for the smallest
    return BINS // 2 + (away if value > 0 else -away)


def distance(one: Sequence[int], other: Sequence[int]) -> float:
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
