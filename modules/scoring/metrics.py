"""Counts and times of requests, in Prometheus' text format."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from modules.scoring.answers import Answers
from modules.scoring.runtime import ModelRuntime

BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)
BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ERROR: Final = 500
_PREFIX: Final = "edgefleet_scoring"
_FAMILIES: Final = {
    "ready": "gauge", "provider_info": "gauge", "queue_depth": "gauge", "running": "gauge", "refused_total": "counter",
    "batch_limit": "gauge",
    "phase_seconds": "histogram", "batch_size": "histogram",
}  # fmt: skip


class Shown(Protocol):
    """A model as the metrics show it."""

    name: str
    runtime: ModelRuntime

    @property
    def ready(self) -> bool: ...


class Histogram:
    """How often a value fell below each bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._sum += value * times
        self._counts[bisect_left(self._bounds, value)] += times

    def lines(self, name: str, labels: str = "") -> list[str]:
        """The lines of one series; ``labels`` such as ``phase="run"``."""
        found, below = [], 0
        before = f"{labels}," if labels else ""
        after = f"{{{labels}}}" if labels else ""
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            below += count
            found.append(f'{name}_bucket{{{before}le="{bound}"}} {below}')
        return [*found, f"{name}_sum{after} {self._sum:.9g}", f"{name}_count{after} {below}"]


class Figures:
    """What a graph's lanes measure: seconds by phase, requests in a run and at most, how many wait, were refused.

    And what its answers are like.
    """

    def __init__(self) -> None:
        self.answers = Answers()
        self.refused = 0
        self.queue_depth: Callable[[], int] = int
        self.running: Callable[[], int] = int
        self.batch_limit: Callable[[], int] = lambda: 1
        self._inline = 0
        self._batch = Histogram(BATCH_BUCKETS)
        self._phases = {name: Histogram(BUCKETS) for name in ("decode", "queue", "run", "encode")}
        self._decode, self._queue, self._run, self._encode = self._phases.values()

    def observe(self, decode: float, queue: float, run: float, encode: float, batch: int) -> None:
        """One request: seconds of its phases, and how many shared its run."""
        self._decode.observe(decode)
        self._queue.observe(queue)
        self._run.observe(run)
        self._encode.observe(encode)
        self._batch.observe(batch)

    def observe_inline(self, decode: float, run: float, encode: float) -> None:
        """One request that neither waited nor shared its run."""
        self._decode.observe(decode)
        self._run.observe(run)
        self._encode.observe(encode)
        self._inline += 1

    def lines(self, model: str) -> list[str]:
        self._queue.observe(0.0, self._inline)
        self._batch.observe(1, self._inline)
        self._inline = 0
        label = f'model="{model}"'
        found = [f"{_PREFIX}_queue_depth{{{label}}} {self.queue_depth()}"]
        found.append(f"{_PREFIX}_running{{{label}}} {self.running()}")
        found.append(f"{_PREFIX}_refused_total{{{label}}} {self.refused}")
        found.append(f"{_PREFIX}_batch_limit{{{label}}} {self.batch_limit()}")
        for name, histogram in self._phases.items():
            found += histogram.lines(f"{_PREFIX}_phase_seconds", f'{label},phase="{name}"')
        return found + self._batch.lines(f"{_PREFIX}_batch_size", label)


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

    def text(self, models: Iterable[Shown]) -> str:
        lines = [f"# TYPE {_PREFIX}_requests_total counter"]
        lines += [f'{_PREFIX}_requests_total{{code="{code}"}} {count}' for code, count in sorted(self.requests.items())]
        lines += [f"# TYPE {_PREFIX}_errors_total counter", f"{_PREFIX}_errors_total {self.errors}"]
        lines += [f"# TYPE {_PREFIX}_abandoned_total counter", f"{_PREFIX}_abandoned_total {self.abandoned}"]
        lines.append(f"# TYPE {_PREFIX}_seconds histogram")
        lines += self._seconds.lines(f"{_PREFIX}_seconds")
        found = [line for model in models for line in _model(model)]
        # One family's lines stand together, whichever model they are of.
        for name, kind in _FAMILIES.items():
            lines.append(f"# TYPE {_PREFIX}_{name} {kind}")
            lines += [line for line in found if re.match(rf"{_PREFIX}_{name}(_bucket|_sum|_count)?[{{ ]", line)]
        return "\n".join([*lines, ""])


def _model(model: Shown) -> list[str]:
    metadata = model.runtime.metadata()
    label = f'model="{model.name}"'
    requested = ",".join(metadata.providers_requested)
    figures = getattr(model.runtime, "figures", None)
    return [
        f"{_PREFIX}_ready{{{label}}} {int(model.ready)}",
        f'{_PREFIX}_provider_info{{{label},provider="{metadata.provider_in_use or ""}",requested="{requested}"}} 1',
        *(figures.lines(model.name) if isinstance(figures, Figures) else ()),
    ]
