"""What the operator and the agent ask: ``/metrics`` and ``/edgefleet/status``."""

import time

from modules.scoring.answers import total
from modules.scoring.http.admission import Admission
from modules.scoring.http.replies import Handler, Reply, allow, document
from modules.scoring.memory import CGROUP, used_mb
from modules.scoring.metrics import CONTENT_TYPE, Figures, Metrics
from modules.scoring.models import Models
from modules.scoring.runtime import Request
from modules.scoring.settings import Settings


class Operation:
    """The routes; ``load_seconds`` is None until the module has been loaded."""

    def __init__(self, models: Models, settings: Settings, metrics: Metrics, admission: Admission) -> None:
        self._models = models
        self._admission = admission
        self._settings = settings
        self._metrics = metrics
        self._born = time.monotonic()
        self.load_seconds: float | None = None

    def routes(self) -> dict[str, Handler]:
        return {"/metrics": self.metrics, "/edgefleet/status": self.status}

    def loaded(self) -> None:
        """Note how long loading took."""
        self.load_seconds = time.monotonic() - self._born

    def metrics(self, request: Request) -> Reply:
        allow(request.method, ("GET", "HEAD"))
        text = self._metrics.text(self._models) + self._admission.text()
        return Reply(200, text.encode(), ((b"content-type", CONTENT_TYPE.encode()),))

    def status(self, request: Request) -> Reply:
        allow(request.method, ("GET", "HEAD"))
        metadata = self._models.main.runtime.metadata()
        module = self._settings.module
        return document({
            "ready": self._models.ready,
            "module": str(module) if module else None,
            "kind": metadata.kind,
            "providers_requested": metadata.providers_requested,
            "provider_in_use": metadata.provider_in_use,
            "provider_reason": metadata.provider_reason,
            "onnxruntime": metadata.onnxruntime,
            "batch_size": metadata.batch_size,
            "batch_reason": metadata.batch_reason,
            "load_seconds": self.load_seconds,
            "cores": self._settings.cores,
            "memory_mb": used_mb(CGROUP),
            "answers": total(
                figures.answers
                for entry in self._models
                if isinstance(figures := getattr(entry.runtime, "figures", None), Figures)
            ),
        })  # fmt: skip
