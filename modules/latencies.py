"""Latencies in little space: how often each of a fixed row of durations came, each a twelfth longer than the last.

Shared by the gateway, which counts, and by agent and fleet server, which read; a percentile is within four percent.
"""

import math
from collections.abc import Collection, Mapping
from typing import Final

_FIRST_S: Final = 20e-6
_RATIO: Final = 1.08
_LOG: Final = math.log(_RATIO)
# Up to half an hour.
BINS: Final = 240


def bin_of(seconds: float) -> int:
    """The bin of a duration."""
    return 0 if seconds <= _FIRST_S else min(BINS - 1, 1 + int(math.log(seconds / _FIRST_S) / _LOG))


def percentile_ms(counts: Mapping[int, int], share: float) -> float | None:
    """The duration that a share of them did not exceed, in milliseconds; None where there are none."""
    rank = math.ceil(share * sum(counts.values()))
    below = 0
    for number in sorted(counts):
        below += counts[number]
        if below >= rank and rank:
            return round(_FIRST_S * math.pow(_RATIO, number - 0.5) * 1000, 4)
    return None


def total_s(counts: Mapping[int, int]) -> float:
    """How long all of them took together, in seconds."""
    return sum(count * _FIRST_S * math.pow(_RATIO, number - 0.5) for number, count in counts.items())


def median(values: Collection[float]) -> float:
    """The median of some values; ``statistics`` would bring a third of a megabyte into the idle agent for it."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
