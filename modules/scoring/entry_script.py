"""A module with code of its own: ``init()`` and ``run(data)`` in a worker process that may hang or crash."""

import asyncio
import contextlib
import logging
from typing import Any, Final

from modules.errors import EdgefleetError
from modules.scoring.runtime import Answer, Metadata, Request, RunFailed, Unavailable
from modules.scoring.worker import Worker, WorkerDied, WorkerSettings

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 30.0
RESTART_WAIT_S: Final = 30.0


class EntryScriptRuntime:
    """One worker, asked one request at a time; replaced when it dies or takes too long.

    A first start that fails is final. A later one that fails is tried again for ever, with growing pauses: what
    worked once may work again, and until then readiness says no.
    """

    def __init__(self, settings: WorkerSettings, *, timeout_ms: float) -> None:
        self._settings = settings
        self._timeout = timeout_ms / 1000
        self._turn = asyncio.Lock()
        self._up = asyncio.Event()
        self._worker: Worker | None = None
        self._watch: asyncio.Task[None] | None = None
        self._replacing: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self._up.is_set()

    async def load(self) -> None:
        self._use(await Worker.start(self._settings))

    async def score(self, request: Request) -> Answer:
        async with self._turn:
            worker = await self._running()
            try:
                async with asyncio.timeout(self._timeout):
                    return await worker.ask(request)
            except TimeoutError as error:
                self._replace(worker, f"request {request.id} took longer than {self._timeout:g} s")
                raise RunFailed(
                    f"run() was stopped after {self._timeout:g} s", element="score_timeout_ms",
                    remedy="send less, or allow more time",
                ) from error  # fmt: skip
            except WorkerDied as error:
                self._replace(worker, str(error))
                raise RunFailed(error.message, element="run()", remedy="see the log for the reason") from error
            except asyncio.CancelledError:
                # Its answer would be taken for the next request's.
                self._replace(worker, f"request {request.id} was cancelled")
                raise

    def metadata(self) -> Metadata:
        worker = self._worker
        provider = worker.provider if worker else None
        reason = "the script has created no ONNX Runtime session so far" if worker else "no worker is running"
        return Metadata(
            kind="entry-script",
            platform="edgefleet_entry-script",
            providers_requested=tuple(name for name, _ in self._settings.providers),
            provider_in_use=provider,
            provider_reason="" if provider else reason,
            onnxruntime=worker.onnxruntime if worker else None,
        )

    def example(self) -> dict[str, Any] | None:
        return None

    async def close(self) -> None:
        self._up.clear()
        for task in (self._watch, self._replacing):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._worker is not None:
            await self._worker.stop()

    async def _running(self) -> Worker:
        """The worker, after waiting a while for one that is starting.

        Raises:
            Unavailable: none came up in time.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(self._timeout, RESTART_WAIT_S)):
                await self._up.wait()
        if self._worker is None or not self.ready:
            raise Unavailable("no worker is running the entry script", remedy="try again; the log says why it ended")
        return self._worker

    def _use(self, worker: Worker) -> None:
        self._worker = worker
        self._watch = asyncio.create_task(self._watch_idle(worker), name="watch worker")
        self._up.set()

    async def _watch_idle(self, worker: Worker) -> None:
        """Replace a worker that dies between requests, so that the next one does not pay for it."""
        self._replace(worker, f"the worker process {await worker.ended()}")

    def _replace(self, worker: Worker, reason: str) -> None:
        if worker is not self._worker:
            return
        log.error("starting a new worker: %s", reason)
        self._worker = None
        self._up.clear()
        self._replacing = asyncio.create_task(self._start_again(worker), name="replace worker")

    async def _start_again(self, old: Worker) -> None:
        await old.kill()
        pause, failed = FIRST_PAUSE_S, False
        while True:
            try:
                worker = await Worker.start(self._settings)
            except (EdgefleetError, OSError) as error:
                if not failed:
                    log.error("the entry script does not start again, trying on: %s", error)  # noqa: TRY400 - the script's own traceback stands above
                failed = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                break
        log.warning("a new worker is running")
        self._use(worker)
