"""Several requests in one run, where ``batch_axis`` allows it and a trial shows that answers stay and that it pays."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from modules.scoring.graphs.batch_trial import independent, places_agree, varied
from modules.scoring.graphs.shared_run import Feeds, Run, joined, rows

# A batch must save this share of a lone run, and at least what queueing and splitting cost.
MIN_GAIN: Final = 0.15
OVERHEAD_S: Final = 60e-6
MAX_DELAY_S: Final = 0.002
# Sizes tried in this order, as long as each is better than the one before and none takes too long.
SIZES: Final = (4, 16, 64)
LONGEST_TRIAL_S: Final = 0.5
# Runs of each size that are timed; the quickest counts.
TIMED: Final = 2
# A number in JSON takes up to this many times its own bytes.
BYTES_IN_JSON: Final = 6


class Batches(msgspec.Struct, frozen=True):
    """At most ``size`` requests together, of ``body_bytes`` and ``rows`` in all; the first waits at most ``delay_s``.

    What pays for small requests need not pay for large ones, as a longer text or a larger picture: more than was
    tried is never run together.
    """

    size: int = 1
    delay_s: float = 0.0
    body_bytes: float = math.inf
    rows: float = math.inf


def choose(
    run: Run, single: Feeds, single_s: float, clock: Callable[[], float], others: Sequence[Feeds] = ()
) -> Batches:
    """Try batches of the example ``single``, which runs in ``single_s``; the answers must be those of lone runs.

    ``others`` are the example with other lengths, in which the answers must be those of lone runs as well.
    """
    best, cost = 1, single_s
    if SIZES[0] * single_s > LONGEST_TRIAL_S or not independent(run, single, others):
        return Batches()
    for size in SIZES:
        if size * cost > LONGEST_TRIAL_S:
            break
        feeds = [varied(single, position) for position in range(size)]
        together = joined(feeds)
        if not places_agree(run, feeds, run(together)):
            return Batches()
        each = _seconds(run, together, clock) / size
        if cost - each < max(MIN_GAIN * cost, OVERHEAD_S if best == 1 else 0.0):
            break
        best, cost = size, each
    if best == 1:
        return Batches()
    text = any(value.dtype == object for value in single.values())  # its length was not tried
    tried = math.inf if text else best * sum(value.nbytes for value in single.values()) * BYTES_IN_JSON
    return Batches(best, min(MAX_DELAY_S, 0.25 * single_s), tried, best * rows(single))


def _seconds(run: Run, feeds: Feeds, clock: Callable[[], float]) -> float:
    """What a run takes where nothing else disturbs it; the first of a new size, which allocates, has been."""
    found = []
    for _ in range(TIMED):
        started = clock()
        run(feeds)
        found.append(clock() - started)
    return min(found)
