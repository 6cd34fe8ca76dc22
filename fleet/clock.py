"""Where the time comes from: a function that tests replace, never a sleep."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


def passing(clock: Clock) -> Clock:
    """Seconds that pass, whatever the wall's clock is set to: since the machine started, asleep or awake.

    Beside a clock that a test has made, no other time passes.
    """
    return _since_boot if clock is time.time else clock


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
