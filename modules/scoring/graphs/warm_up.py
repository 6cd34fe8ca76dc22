"""The first runs of a graph, on zeros: they allocate and compile, find sizes that work, and show how long a run is."""

import logging
import time
from statistics import median
from typing import Final

import msgspec

from modules.scoring.graphs import inputs
from modules.scoring.graphs.session import Session
from modules.scoring.graphs.shared_run import Feeds
from modules.scoring.runtime import BadInput, RunFailed

log = logging.getLogger(__name__)

# Sizes tried for free dimensions after the first, until the graph runs: lengths, then image sides.
_SIZES: Final = (1, 2, 8, 32, 128, 224, 256, 512)
# The first run pays for allocation; more runs follow as long as they take no longer than this together.
_RUNS: Final = 5
_BUDGET_S: Final = 0.1


class WarmUp(msgspec.Struct, frozen=True):
    """The ``size`` of free dimensions that works, and the median time of a run."""

    size: int
    seconds: float


def warm_up(session: Session, name: str) -> WarmUp | None:
    """Run zeros; None where no size of the free dimensions gives an example that runs."""
    for size in _SIZES:
        feeds = inputs.example(session.inputs, size)
        if feeds is None:
            break
        try:
            return WarmUp(size, _seconds(session, feeds))
        except (BadInput, RunFailed) as error:
            log.debug("zeros with free dimensions of %d do not run: %s", size, error)
    log.warning("no example could be made for %s: its first request will be its warm-up", name)
    return None


def longer_than(size: int) -> tuple[int, ...]:
    """Sizes to try besides one of 1: with it, rows that a graph mixes up by a wrong order of axes stay in order."""
    return (3, 8) if size == 1 else ()


def _seconds(session: Session, feeds: Feeds) -> float:
    options, times = session.options(), []
    for _ in range(1 + _RUNS):
        started = time.perf_counter()
        session.run(feeds, options)
        times.append(time.perf_counter() - started)
        if sum(times) > _BUDGET_S:
            break
    return median(times[1:] or times)
