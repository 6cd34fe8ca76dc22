"""A module with code of its own: ``init()`` and ``run(data)`` in worker processes that may hang or crash."""

import asyncio
from typing import Any

from modules.scoring.answers import of_script
from modules.scoring.metrics import Figures
from modules.scoring.runtime import Answer, Metadata, Request
from modules.scoring.scripts.worker import Job, ScriptSchema, WorkerSettings
from modules.scoring.scripts.workers import Workers


class EntryScriptRuntime:
    """Workers, each running one request at a time; replaced when they die or take too long."""

    def __init__(self, settings: WorkerSettings, *, timeout_ms: float, workers: int = 1, queue: int = 256) -> None:
        self.figures = Figures()
        self._settings = settings
        self._workers = Workers(
            settings, count=workers, queue=queue, timeout=timeout_ms / 1000, figures=self.figures
        )  # fmt: skip
        self._schema = ScriptSchema()
        self._loaded = False
        self.figures.queue_depth = lambda: self._workers.waiting

    @property
    def ready(self) -> bool:
        return self._loaded and self._workers.any is not None

    async def load(self) -> None:
        await self._workers.load()
        if (worker := self._workers.any) is not None and worker.schema is not None:
            self._schema = worker.schema
        self._loaded = True

    def score(self, request: Request) -> asyncio.Future[Answer]:
        """The answer, later. Cancelling it takes back what has not been begun; a run that has been goes on."""
        loop = asyncio.get_running_loop()
        job = Job(request, loop.create_future(), loop.time())
        if self.figures.answers.due():
            job.future.add_done_callback(self._look)
        self._workers.give(job)
        return job.future

    def _look(self, answered: asyncio.Future[Answer]) -> None:
        if not answered.cancelled() and answered.exception() is None and self.figures.answers.due():
            self.figures.answers.look(lambda: of_script(answered.result()))

    def metadata(self) -> Metadata:
        worker = self._workers.any
        provider = worker.provider if worker else None
        reason = "the script has created no ONNX Runtime session so far" if worker else "no worker is running"
        return Metadata(
            kind="entry-script",
            platform="edgefleet_entry-script",
            providers_requested=tuple(name for name, _ in self._settings.providers),
            provider_in_use=provider,
            provider_reason="" if provider else reason,
            onnxruntime=worker.onnxruntime if worker else None,
            request_schema=self._schema.request,
            answer_schema=self._schema.answer,
            openapi_versions=self._schema.versions,
        )

    def example(self) -> dict[str, Any] | None:
        """The samples that the script's ``@input_schema`` was given."""
        return self._schema.example

    def hang_up(self) -> None:
        """Pass on what the server was told by SIGHUP: its secrets are new, and the script may read them again."""
        self._workers.hang_up()

    async def close(self) -> None:
        await self._workers.close()
