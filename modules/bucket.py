"""A token bucket: so many bytes a second on average, and a moment's worth of them at once."""

import time
from collections.abc import Callable
from typing import Final

# What was not used for so long may be used at once.
BURST_S: Final = 0.25


class Bucket:
    """``rate`` is in bytes per second, 0 for no limit; ``now`` is in seconds and never goes back."""

    def __init__(self, rate: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._now = now
        # Until when what was taken lasts.
        self._paid = now() - BURST_S

    def take(self, size: int) -> float:
        """Take so many bytes; returns how many seconds to wait before they are sent. Never refuses.

        A negative number gives back what was taken and is not sent.
        """
        if not self.rate:
            return 0.0
        now = self._now()
        begins = max(self._paid, now - BURST_S)
        self._paid = begins + size / self.rate
        return max(0.0, begins - now)
