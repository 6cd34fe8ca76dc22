"""Counts and times of requests to ``/score``, in Prometheus' text format."""

from bisect import bisect_left
from collections import Counter
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ERROR: Final = 500


class Metrics:
    """Requests by status code, failures, and a histogram of seconds."""

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()
        self.errors = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(BUCKETS) + 1)

    def observe(self, status: int, seconds: float) -> None:
        self.requests[status] += 1
        self.errors += status >= ERROR
        self._seconds += seconds
        self._buckets[bisect_left(BUCKETS, seconds)] += 1

    def text(self, *, ready: bool, provider: str | None) -> str:
        name = "edgefleet_scoring"
        lines = [f"# TYPE {name}_requests_total counter"]
        lines += [f'{name}_requests_total{{code="{code}"}} {count}' for code, count in sorted(self.requests.items())]
        lines += [f"# TYPE {name}_errors_total counter", f"{name}_errors_total {self.errors}"]
        lines += [f"# TYPE {name}_ready gauge", f"{name}_ready {int(ready)}"]
        lines += [f"# TYPE {name}_provider_info gauge", f'{name}_provider_info{{provider="{provider or ""}"}} 1']
        lines.append(f"# TYPE {name}_seconds histogram")
        below = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._buckets, strict=True):
            below += count
            lines.append(f'{name}_seconds_bucket{{le="{bound}"}} {below}')
        lines += [f"{name}_seconds_sum {self._seconds:.9g}", f"{name}_seconds_count {below}", ""]
        return "\n".join(lines)
