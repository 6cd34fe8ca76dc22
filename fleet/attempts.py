"""How often somebody may fail before it counts: addresses with tokens that do not hold, devices with forged messages.

Neither can be guessed or forged by trying; this keeps those who try from filling the log and the database: each of
them, and, where there is a bound for all together, those who try from many addresses.
"""

import threading
from collections import Counter, OrderedDict, deque
from typing import Final

from fleet.refusals import TooMany

WINDOW_S: Final = 60.0
ALLOWED: Final = 20
# Of all addresses together; a refusal is a row of the database and a line of the log.
ALLOWED_ALL: Final = 300
ADDRESSES: Final = 10_000
DAY_S: Final = 86400


class Attempts:
    """Failures per address (or device) in the last minute; forgets the longest silent one when there are too many."""

    def __init__(self, together: int | None = None) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._all: deque[float] | None = None if together is None else deque(maxlen=together)
        self._lock = threading.Lock()

    def failed(self, address: str, now: float) -> None:
        """Count one more.

        Raises:
            TooMany: this address, or all together, had failed too often before; this one is not counted.
        """
        if not self.allows(address, now):
            raise TooMany("too many attempts that failed", element=address, remedy="wait a minute")

    def allows(self, address: str, now: float) -> bool:
        """Count one more; False where there were too many before, and this one is not counted."""
        with self._lock:
            failures = self._failures.setdefault(address, deque(maxlen=ALLOWED))
            self._failures.move_to_end(address)
            if len(self._failures) > ADDRESSES:
                self._failures.popitem(last=False)
            for counted in (failures, self._all):
                if counted is not None and _full(counted, now):
                    return False
            failures.append(now)
            if self._all is not None:
                self._all.append(now)
            return True


class Asked:
    """How often each key asks for a certificate in a day (of UTC); used from any thread."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self._day = 0
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def again(self, key: str, now: float) -> None:
        """Count one more.

        Raises:
            TooMany: this key asked too often today, or too many keys did.
        """
        with self._lock:
            if (day := int(now // DAY_S)) != self._day:
                self._day, self._counts = day, Counter()
            if self._counts[key] >= self._allowed or len(self._counts) > ADDRESSES * 10:
                raise TooMany("this key asked too often today", element="csr", remedy="ask again tomorrow")
            self._counts[key] += 1


def _full(counted: deque[float], now: float) -> bool:
    # Either way: a clock that was ahead for a moment locks nobody out until it is that late again.
    while counted and abs(now - counted[0]) >= WINDOW_S:
        counted.popleft()
    return len(counted) == counted.maxlen
