"""What applications saw of each instance since this gateway knows it: requests, errors, latencies. For the agent."""

import time
from collections import Counter
from collections.abc import Collection
from typing import Final

from modules.latencies import bin_of

# What asks for a score; all else is about the module, and would make it look quicker than it is.
_SCORES: Final = ("/score", "/infer")
_ERROR: Final = 500


class Tally:
    """Of one instance. Bounded: a number for each latency that came, of a few hundred that are told apart."""

    __slots__ = ("_born", "errors", "latencies", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.latencies: Counter[int] = Counter()
        self._born = time.monotonic()

    def shown(self) -> dict[str, object]:
        """As the agent is told: counts that only grow, and over how many seconds."""
        return {
            "seconds": round(time.monotonic() - self._born, 3),
            "requests": self.requests,
            "errors": self.errors,
            "latencies": sorted(self.latencies.items()),
        }


class Attempt:
    """One request on its way to an instance, which may be sent a second time; counted once, when it has ended."""

    __slots__ = ("_began", "_heard", "_lost", "_tally")

    def __init__(self, tally: Tally | None) -> None:
        self._tally = tally
        self.begin()

    def begin(self) -> None:
        """It is sent now."""
        self._began, self._heard, self._lost = time.perf_counter(), 0.0, False

    def heard(self) -> None:
        """The module has done its part: what comes now depends on how fast the client takes it."""
        self._heard = time.perf_counter()

    def lost(self) -> None:
        """Its answer will never be whole."""
        self._lost = True

    def ended(self, status: int) -> None:
        """With the module's status, 0 where none came."""
        tally = self._tally
        if tally is None:
            return
        tally.requests += 1
        tally.errors += self._lost or not status or status >= _ERROR
        if status:
            tally.latencies[bin_of((self._heard or time.perf_counter()) - self._began)] += 1


class Counts:
    """The tallies of the instances that the routing table names."""

    def __init__(self) -> None:
        self._of: dict[str, Tally] = {}

    def attempt(self, instance: str, path: str) -> Attempt:
        """A request that is sent to this instance (empty: to nobody here)."""
        if not instance or not path.partition("?")[0].endswith(_SCORES):
            return Attempt(None)
        tally = self._of.get(instance)
        if tally is None:
            tally = self._of[instance] = Tally()
        return Attempt(tally)

    def keep_only(self, instances: Collection[str]) -> None:
        """Forget the others."""
        for gone in self._of.keys() - set(instances):
            del self._of[gone]

    def among(self, instances: Collection[str]) -> dict[str, dict[str, object]]:
        return {one: self._of[one].shown() for one in instances if one in self._of}
