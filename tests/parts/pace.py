"""How slow this machine is, measured once for each process: the limits of tests that wait are stretched by it."""

import hashlib
import os
import time
from typing import Final

# What the measured work takes on the machine on which the limits were chosen, with nothing beside it.
_USUAL_S: Final = 0.004
_MOST: Final = 10.0
# Workers of the same run have their programs on the same cores.
_WORKERS: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_DATA: Final = bytes(1 << 20)


def _work() -> float:
    began = time.perf_counter()
    for number in range(4):
        hashlib.sha256(_DATA).digest()
        sum(one * number for one in range(10_000))
    return time.perf_counter() - began


FACTOR: Final = min(max(1.0, sorted(_work() for _ in range(5))[2] / _USUAL_S) * _WORKERS, _MOST)


def stretched(seconds: float) -> float:
    """A limit that was chosen on the usual machine, for this one."""
    return seconds * FACTOR
