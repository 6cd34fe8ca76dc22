"""Several workers of one entry script: each request goes to an idle one, and one that dies or hangs is replaced."""

import asyncio
import contextlib
import logging
from collections import deque
from typing import Final

from modules.errors import EdgefleetError
from modules.scoring.metrics import Figures
from modules.scoring.runtime import Busy, RunEnded, RunFailed, Unavailable
from modules.scoring.scripts.worker import Job, Worker, WorkerSettings

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 30.0
RESTART_WAIT_S: Final = 30.0


class Workers:
    """``count`` workers. At most ``queue`` jobs wait, and ``patience`` seconds while no worker runs at all.

    A first start that fails is final. A later one that fails is tried again for ever, with growing pauses: what
    worked once may work again, and until then readiness says no.
    """

    def __init__(self, settings: WorkerSettings, *, count: int, queue: int, timeout: float, figures: Figures) -> None:
        self._settings = settings
        self._count = count
        self._queue = queue
        self._timeout = timeout
        self._patience = min(timeout, RESTART_WAIT_S)
        # One worker alone gets its next job while it runs one, so that it need not wait for us in between. Of several
        # an idle one may come first.
        self._ahead = 2 if count == 1 else 1
        self._figures = figures
        self._running: dict[Worker, asyncio.Task[None]] = {}
        self._waiting: deque[Job] = deque()
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
        self._use(await self._start())
        others = await asyncio.gather(*(self._start() for _ in range(self._count - 1)), return_exceptions=True)
        for one in others:
            if isinstance(one, Worker):
                self._use(one)
        for one in others:
            if isinstance(one, BaseException):
                raise one

    def give(self, job: Job) -> None:
        """Have an idle worker answer this job, now or when there is one.

        Raises:
            Busy: too many jobs wait already.
        """
        if (worker := self._least_busy()) is not None:
            worker.give(job)
            return
        if len(self._waiting) >= self._queue:
            self._figures.refused += 1
            raise Busy(f"{self._queue} requests wait already", element="EDGEFLEET_LIMITS", remedy="try again later")
        self._waiting.append(job)
        if not self._running:
            asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def free(self, worker: Worker, job: Job) -> None:
        """It has answered: the next one waiting gets it."""
        now = asyncio.get_running_loop().time()
        self._figures.observe(0.0, job.began - job.came, now - job.began, 0.0, 1)
        while self._waiting and worker in self._running and len(worker.jobs) < self._ahead:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                worker.give(waiting)

    def overdue(self, worker: Worker) -> None:
        """What it runs has taken too long: it is stopped the only way there is."""
        self._replace(
            worker, f"request {worker.jobs[0].request.id} took longer than {self._timeout:g} s",
            RunEnded(
                f"run() was stopped after {self._timeout:g} s", element="score_timeout_ms",
                remedy="send less, or allow more time",
            ),
        )  # fmt: skip

    def hang_up(self) -> None:
        for worker in self._running:
            worker.hang_up()

    async def close(self) -> None:
        running = dict(self._running)
        self._running.clear()
        for task in (*running.values(), *self._replacing):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.gather(*(worker.stop() for worker in running))

    def _least_busy(self) -> Worker | None:
        usable = (worker for worker in self._running if worker.reachable and len(worker.jobs) < self._ahead)
        return min(usable, key=lambda worker: len(worker.jobs), default=None)

    async def _start(self) -> Worker:
        return await Worker.start(self._settings, self, self._timeout)

    def _replace(self, worker: Worker, reason: str, error: RunFailed) -> None:
        """It cannot be asked again: kill it and start another. What it has not begun goes to others."""
        watch = self._running.pop(worker, None)
        if watch is None:
            return
        log.error("starting a new worker: %s", reason)
        self._keep(asyncio.create_task(self._start_again(worker), name="replace worker"))
        for job in reversed(worker.fail(error)):
            self._waiting.appendleft(job)
        if not self._running:
            asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        """Tell those who wait that no worker came up."""
        while self._waiting and not self._running:
            self._waiting.popleft().fail(
                Unavailable("no worker is running the entry script", remedy="try again; the log says why it ended")
            )

    def _use(self, worker: Worker) -> None:
        self._running[worker] = asyncio.create_task(self._watch(worker), name="watch worker")
        while self._waiting and len(worker.jobs) < self._ahead:
            worker.give(self._waiting.popleft())

    async def _watch(self, worker: Worker) -> None:
        """Replace a worker that dies, even between requests, so that the next one does not pay for it."""
        reason = f"the worker process {await worker.ended()}"
        self._replace(worker, reason, RunEnded(reason, element="run()", remedy="see the log for the reason"))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _start_again(self, old: Worker) -> None:
        await old.kill()
        pause, failed = FIRST_PAUSE_S, False
        while True:
            try:
                worker = await self._start()
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
