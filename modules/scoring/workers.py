"""Several workers of one entry script: each request goes to an idle one, and one that dies or hangs is replaced."""

import asyncio
import contextlib
import logging
from collections import deque
from typing import Final

from modules.errors import EdgefleetError
from modules.scoring.runtime import Busy, Unavailable
from modules.scoring.worker import Worker, WorkerSettings

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 30.0


class Workers:
    """``count`` workers. At most ``queue`` requests wait, and ``patience`` seconds while no worker runs at all.

    A first start that fails is final. A later one that fails is tried again for ever, with growing pauses: what
    worked once may work again, and until then readiness says no.
    """

    def __init__(self, settings: WorkerSettings, *, count: int, queue: int, patience: float) -> None:
        self._settings = settings
        self._count = count
        self._queue = queue
        self._patience = patience
        self._running: dict[Worker, asyncio.Task[None]] = {}
        self._idle: deque[Worker] = deque()
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._replacing: set[asyncio.Task[None]] = set()

    @property
    def any(self) -> Worker | None:
        """One that runs, busy or not."""
        return next(iter(self._running), None)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def load(self) -> None:
        """Start all: one alone, so that a script that cannot be served says so once, then the others.

        Raises:
            EdgefleetError: the script cannot be served.
        """
        self._use(await Worker.start(self._settings))
        others = await asyncio.gather(
            *(Worker.start(self._settings) for _ in range(self._count - 1)), return_exceptions=True
        )
        failures = [one for one in others if isinstance(one, BaseException)]
        for one in others:
            if isinstance(one, Worker):
                self._use(one)
        if failures:
            raise failures[0]

    async def take(self) -> Worker:
        """An idle worker, when there is one; :meth:`give_back` or :meth:`replace` must follow.

        Raises:
            Busy: too many requests wait already.
            Unavailable: no worker runs, and none came up in time.
        """
        if self._idle:
            return self._idle.pop()
        if len(self._waiting) >= self._queue:
            raise Busy(f"{self._queue} requests wait already", element="EDGEFLEET_LIMITS", remedy="try again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Worker] = loop.create_future()
        self._waiting.append(future)
        if not self._running:
            loop.call_later(self._patience, self._give_up)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                self.give_back(future.result())
            raise

    def give_back(self, worker: Worker) -> None:
        """It has answered: the next one waiting gets it."""
        if worker not in self._running:
            return
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(worker)
                return
        self._idle.append(worker)

    def replace(self, worker: Worker, reason: str) -> None:
        """It cannot be asked again: kill it and start another."""
        watch = self._running.pop(worker, None)
        if watch is None:
            return
        log.error("starting a new worker: %s", reason)
        if worker in self._idle:
            self._idle.remove(worker)
        if not self._running:
            asyncio.get_running_loop().call_later(self._patience, self._give_up)
        self._keep(asyncio.create_task(self._start_again(worker), name="replace worker"))

    async def close(self) -> None:
        running = dict(self._running)
        self._running.clear()
        for task in (*running.values(), *self._replacing):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.gather(*(worker.stop() for worker in running))

    def _give_up(self) -> None:
        """Tell those who wait that no worker came up."""
        while self._waiting and not self._running:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(
                    Unavailable("no worker is running the entry script", remedy="try again; the log says why it ended")
                )

    def _use(self, worker: Worker) -> None:
        self._running[worker] = asyncio.create_task(self._watch(worker), name="watch worker")
        self.give_back(worker)

    async def _watch(self, worker: Worker) -> None:
        """Replace a worker that dies between requests, so that the next one does not pay for it."""
        self.replace(worker, f"the worker process {await worker.ended()}")

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

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
