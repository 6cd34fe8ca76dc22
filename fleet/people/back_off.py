"""Log-ins that fail make the next one wait, longer each time: of one operator's name, and of one address.

Whoever tries passwords of many names waits by address, and whoever tries one name from many addresses by that name. A
name waits for a minute at most, so that nobody can keep its owner out by failing. In this process's memory alone.
"""

import math
import threading
from collections import OrderedDict
from typing import Final, NamedTuple

from fleet.refusals import TooMany

# So many may fail before anybody waits; then a second, and twice as long each time.
FREE: Final = 4
NAME_MOST_S: Final = 60.0
ADDRESS_MOST_S: Final = 900.0
# After so long without a failure all is forgotten.
FORGET_S: Final = 3600.0
# Of log-ins at the same time one that began earlier may fail later, by as long as it waits for its turn and more.
LASTS_S: Final = 60.0
KNOWN: Final = 10_000


class _Failures(NamedTuple):
    times: int
    last: float


class BackOff:
    """Failures by name and by address; forgets the longest silent one when there are too many."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, name: str, address: str, now: float) -> None:
        """Whether a log-in may be tried now.

        Raises:
            TooMany: it has to wait; ``wait_s`` says for how long.
        """
        with self._lock:
            name_s = self._wait_s("name", name, NAME_MOST_S, now)
            wait_s = max(name_s, self._wait_s("address", address, ADDRESS_MOST_S, now))
        if wait_s > 0:
            wait_s = float(math.ceil(wait_s))
            refusal = TooMany("too many log-ins failed", element="login", remedy=f"wait {wait_s:.0f} s")
            refusal.wait_s = wait_s
            raise refusal

    def failed(self, name: str, address: str, now: float) -> None:
        with self._lock:
            for key in (("name", name), ("address", address)):
                times = self._times(key, now)
                last = max(now, self._failures[key].last) if times else now
                self._failures[key] = _Failures(times + 1, last)
                self._failures.move_to_end(key)
            while len(self._failures) > KNOWN:
                self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """The name is its owner's again; an address may have other names to try, and is not forgotten."""
        with self._lock:
            self._failures.pop(("name", name), None)

    def _times(self, key: tuple[str, str], now: float) -> int:
        known = self._failures.get(key)
        # Of a clock that was set back nobody is to wait for days.
        return 0 if known is None or not -LASTS_S <= now - known.last < FORGET_S else known.times

    def _wait_s(self, kind: str, key: str, most_s: float, now: float) -> float:
        times = self._times((kind, key), now)
        if times < FREE:
            return 0.0
        return self._failures[kind, key].last + min(2.0 ** min(times - FREE, 30), most_s) - now
