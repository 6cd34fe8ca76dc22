"""Counts and times of requests, in Prometheus' text format."""

from bisect import bisect_left
from collections import Counter
from typing import Final

from modules.scoring.runtime import Metadata

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ERROR: Final = 500
_PREFIX: Final = "edgefleet_scoring"


class Histogram:
    """How often a value fell below each bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._sum += value
        self._counts[bisect_left(self._bounds, value)] += 1

    def lines(self, name: str, labels: str = "") -> list[str]:
        """The lines of one series; ``labels`` such as ``phase="run"``."""
        found, below = [], 0
        before = f"{labels}," if labels else ""
        after = f"{{{labels}}}" if labels else ""
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            below += count
            found.append(f'{name}_bucket{{{before}le="{bound}"}} {below}')
        return [*found, f"{name}_sum{after} {self._sum:.9g}", f"{name}_count{after} {below}"]


class Metrics:
    """Requests by status code, failures, requests whose client went away, and a histogram of seconds."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.errors = 0
        self.abandoned = 0
        self._seconds = Histogram(BUCKETS)

    def observe(self, status: int, seconds: float) -> None:
        self.requests[status] += 1
        self.errors += status >= ERROR
        self._seconds.observe(seconds)

    def text(self, *, ready: bool, metadata: Metadata) -> str:
        lines = [f"# TYPE {_PREFIX}_requests_total counter"]
        lines += [f'{_PREFIX}_requests_total{{code="{code}"}} {count}' for code, count in sorted(self.requests.items())]
        lines += [f"# TYPE {_PREFIX}_errors_total counter", f"{_PREFIX}_errors_total {self.errors}"]
        lines += [f"# TYPE {_PREFIX}_abandoned_total counter", f"{_PREFIX}_abandoned_total {self.abandoned}"]
        lines += [f"# TYPE {_PREFIX}_ready gauge", f"{_PREFIX}_ready {int(ready)}"]
        requested = ",".join(metadata.providers_requested)
        lines += [
            f"# TYPE {_PREFIX}_provider_info gauge",
            f'{_PREFIX}_provider_info{{provider="{metadata.provider_in_use or ""}",requested="{requested}"}} 1',
            f"# TYPE {_PREFIX}_seconds histogram",
        ]
        return "\n".join([*lines, *self._seconds.lines(f"{_PREFIX}_seconds"), ""])
