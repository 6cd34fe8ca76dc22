"""A module with code of its own: ``init()`` and ``run(data)`` in worker processes that may hang or crash."""

import asyncio
import time
from typing import Any, Final, Self

import msgspec

from modules.scoring.metrics import Figures
from modules.scoring.runtime import Answer, Metadata, Request, RunFailed
from modules.scoring.worker import ScriptSchema, Worker, WorkerDied, WorkerSettings
from modules.scoring.workers import Workers

RESTART_WAIT_S: Final = 30.0


class EntryScriptRuntime:
    """Workers, each asked one request at a time; replaced when they die or take too long."""

    def __init__(self, settings: WorkerSettings, *, timeout_ms: float, workers: int = 1, queue: int = 256) -> None:
        self._settings = settings
        self._timeout = timeout_ms / 1000
        self._workers = Workers(settings, count=workers, queue=queue, patience=min(self._timeout, RESTART_WAIT_S))
        self._schema = ScriptSchema()
        self._loaded = False
        self._abandoned: set[asyncio.Task[None]] = set()
        self.figures = Figures()
        self.figures.queue_depth = lambda: self._workers.waiting

    @property
    def ready(self) -> bool:
        return self._loaded and self._workers.any is not None

    async def load(self) -> None:
        await self._workers.load()
        if (worker := self._workers.any) is not None and worker.schema is not None:
            self._schema = worker.schema
        self._loaded = True

    async def score(self, request: Request) -> Answer:
        came = time.perf_counter()
        worker = await self._workers.take()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout):
                answer, streams = await worker.ask(request)
        except TimeoutError as error:
            raise self.too_long(worker, request.id) from error
        except WorkerDied as error:
            raise self.died(worker, error) from error
        except asyncio.CancelledError:
            # Its answer would be taken for the next request's.
            self._workers.replace(worker, f"request {request.id} was cancelled")
            raise
        except RunFailed:
            self._workers.give_back(worker)
            raise
        self.figures.observe(0.0, began - came, time.perf_counter() - began, 0.0, 1)
        if streams:
            return msgspec.structs.replace(answer, body=_Parts(self, worker, request.id))
        self._workers.give_back(worker)
        return answer

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
        )

    def example(self) -> dict[str, Any] | None:
        """The samples that the script's ``@input_schema`` was given."""
        return self._schema.example

    async def close(self) -> None:
        await self._workers.close()

    async def part(self, worker: Worker, request_id: str) -> bytes | None:
        """The next part of an answer that is made while it is sent; None after the last.

        Raises:
            RunFailed: it ends here, by an error of the script or a time-out.
        """
        try:
            async with asyncio.timeout(self._timeout):
                part = await worker.more()
        except TimeoutError as error:
            raise self.too_long(worker, request_id) from error
        except WorkerDied as error:
            raise self.died(worker, error) from error
        except RunFailed:
            self._workers.give_back(worker)
            raise
        if part is None:
            self._workers.give_back(worker)
        return part

    def abandon(self, worker: Worker, request_id: str) -> None:
        """Nobody wants the rest of an answer: let its worker end it and take the next request."""
        task = asyncio.create_task(self._abandon(worker, request_id), name="abandon stream")
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)

    async def _abandon(self, worker: Worker, request_id: str) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await worker.abandon()
        except (TimeoutError, WorkerDied):
            self._workers.replace(worker, f"the abandoned answer to request {request_id} did not end")
        else:
            self._workers.give_back(worker)

    def too_long(self, worker: Worker, request_id: str) -> RunFailed:
        self._workers.replace(worker, f"request {request_id} took longer than {self._timeout:g} s")
        return RunFailed(
            f"run() was stopped after {self._timeout:g} s", element="score_timeout_ms",
            remedy="send less, or allow more time",
        )  # fmt: skip

    def died(self, worker: Worker, error: WorkerDied) -> RunFailed:
        self._workers.replace(worker, str(error))
        return RunFailed(error.message, element="run()", remedy="see the log for the reason")


class _Parts:
    """An answer that is made while it is sent. Dropping it, before its end or its start, frees the worker."""

    def __init__(self, runtime: EntryScriptRuntime, worker: Worker, request_id: str) -> None:
        self._runtime = runtime
        self._worker = worker
        self._id = request_id
        self._open = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._open:
            raise StopAsyncIteration
        try:
            part = await self._runtime.part(self._worker, self._id)
        except RunFailed:
            self._open = False
            raise
        if part is None:
            self._open = False
            raise StopAsyncIteration
        return part

    async def aclose(self) -> None:
        self._drop()

    def __del__(self) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._open:
            self._open = False
            self._runtime.abandon(self._worker, self._id)
