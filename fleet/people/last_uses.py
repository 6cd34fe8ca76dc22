"""When tokens were used last: known to the minute, for each time it is noted is a write."""

import threading
from typing import Final

USED_EVERY_S: Final = 60.0
_NOTED: Final = 10_000


class LastUses:
    """When this process noted the last use of each token, so that thousands of requests at once are one write."""

    def __init__(self) -> None:
        self._noted: dict[int, float] = {}
        self._lock = threading.Lock()

    def due(self, token: int, now: float, known: float | None) -> bool:
        with self._lock:
            last = max(self._noted.get(token, 0.0), known or 0.0)
            if last <= now < last + USED_EVERY_S:
                return False
            if len(self._noted) >= _NOTED:
                self._noted.clear()
            self._noted[token] = now
            return True
