"""What this process counts while it works, for ``GET /metrics``: in a registry of its own, nothing global.

prometheus-client counts and writes: it knows what may stand in a label, and both text formats, and brings no package
along. What is not a count of this process is read where it stands when somebody asks (fleet/figures.py).
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

# From one message on a quick disk to a batch that waited for a locked database.
BATCH_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Meters:
    """Counts since the start of the server; used from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._messages = Counter(
            "edgefleet_ingest_messages", "messages of devices, by kind", ["kind"], registry=self.registry
        )
        self._refused = Counter(
            "edgefleet_ingest_refused", "of them, forged or unreadable", ["kind"], registry=self.registry
        )
        self._surplus = Counter(
            "edgefleet_ingest_surplus",
            "messages of a flood, which newer ones of the same device replaced before they were looked at",
            ["kind"],
            registry=self.registry,
        )
        self._known = Counter(
            "edgefleet_ingest_known",
            "of them, said before or overtaken",
            ["kind"],
            registry=self.registry,
        )
        self._odd = Counter(
            "edgefleet_ingest_odd",
            "what devices said that became an event",
            ["kind"],
            registry=self.registry,
        )
        self._batch = Histogram(
            "edgefleet_ingest_batch_seconds",
            "from the beginning of a batch of messages until it was committed",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._blocks = Counter(
            "edgefleet_block_bytes",
            "bytes of blobs and trust metadata that went to devices: to one that asked, to all, or over HTTPS",
            ["way"],
            registry=self.registry,
        )
        self._withheld = Counter(
            "edgefleet_blobs_withheld",
            "requests of devices for blobs that their orders do not name: asked at the broker, or over HTTPS",
            ["way"],
            registry=self.registry,
        )
        self._forgotten = Counter(
            "edgefleet_forgotten_rows", "rows that were older than is kept, by table", ["table"], registry=self.registry
        )

    @contextmanager
    def batch(self, kinds: Iterable[str]) -> Iterator[None]:
        """Around the work on a batch of messages of these kinds."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._batch.observe(time.perf_counter() - began)
            for kind in kinds:
                self._messages.labels(kind).inc()

    def block(self, size: int, way: Literal["asked", "to_all", "https"]) -> None:
        self._blocks.labels(way).inc(size)

    def withheld(self, way: Literal["asked", "https"]) -> None:
        self._withheld.labels(way).inc()

    def refused(self, kind: str) -> None:
        self._refused.labels(kind).inc()

    def surplus(self, kind: str) -> None:
        self._surplus.labels(kind).inc()

    def known(self, kind: str) -> None:
        self._known.labels(kind).inc()

    def odd(self, event: str) -> None:
        self._odd.labels(event).inc()

    def forgotten(self, table: str, rows: int) -> None:
        self._forgotten.labels(table).inc(rows)
