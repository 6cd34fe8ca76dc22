"""How often somebody may fail before it counts: addresses with tokens that do not hold, devices with forged messages.

Neither can be guessed or forged by trying; this keeps those who try from filling the log and the database.
"""

import threading
from collections import OrderedDict, deque
from typing import Final

from fleet.refusals import TooMany

WINDOW_S: Final = 60.0
ALLOWED: Final = 20
ADDRESSES: Final = 10_000


class Attempts:
    """Failures per address (or device) in the last minute; forgets the longest silent one when there are too many."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def failed(self, address: str, now: float) -> None:
        """Count one more.

        Raises:
            TooMany: this address had failed too often before; this one is not counted.
        """
        if not self.allows(address, now):
            raise TooMany("too many attempts that failed", element=address, remedy="wait a minute")

    def allows(self, address: str, now: float) -> bool:
        """Count one more; False where there were too many before, and this one is not counted."""
        with self._lock:
            failures = self._failures.setdefault(address, deque(maxlen=ALLOWED))
            while failures and failures[0] <= now - WINDOW_S:
                failures.popleft()
            if len(failures) >= ALLOWED:
                return False
            failures.append(now)
            self._failures.move_to_end(address)
            if len(self._failures) > ADDRESSES:
                self._failures.popitem(last=False)
            return True
