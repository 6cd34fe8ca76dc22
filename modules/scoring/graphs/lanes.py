"""Where a request is decoded, run and encoded: at once on the event loop, or in a thread, alone or in a batch.

At once is right where the model is so quick that handing it over would cost more than running it. Threads are right
for everything else: health is answered beside them, and all granted cores are used. Nothing waits without a bound.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Protocol

from modules.errors import EdgefleetError
from modules.scoring.graphs import shared_run
from modules.scoring.graphs.batching import Batches
from modules.scoring.graphs.shared_run import Feeds, Values
from modules.scoring.metrics import Figures
from modules.scoring.runtime import Busy

log = logging.getLogger(__name__)

# A model at least this quick runs on the event loop, for bodies up to this size.
INLINE_S: Final = 0.0005
INLINE_BYTES: Final = 64 << 10
DECODED_ALONE_BYTES: Final = 1 << 20
# A run of at least this many bytes, and so many times what is usual, grew the memory that is kept for the next ones.
OUTLIER_BYTES: Final = 1 << 20
OUTLIER_TIMES: Final = 4
# A second run on the event loop that takes this much of the processor ends running there.
TOO_LONG_INLINE_S: Final = 0.02


class Session(Protocol):
    """Something that runs arrays through a model; stoppable from another thread through its options."""

    def options(self, *, trim: bool = False) -> Any:
        """What one run can be stopped by; with ``trim`` memory that it leaves unused is given back after it."""

    def stop(self, options: Any) -> None: ...

    def run(self, feeds: Feeds, options: Any) -> Values: ...


class Job:
    """One request on its way; ``decode`` gives its arrays, ``encode`` makes the answer of outputs and milliseconds."""

    __slots__ = ("alone", "born", "decode", "encode", "feeds", "future", "size")

    def __init__(
        self,
        size: int,
        decode: Callable[[], Feeds],
        encode: Callable[[Values, float], Any],
        future: asyncio.Future[Any],
    ) -> None:
        self.size, self.decode, self.encode, self.future = size, decode, encode, future
        self.feeds: Feeds = {}
        self.alone = False
        self.born = time.perf_counter()


class _Failure(NamedTuple):
    """What a job ended with instead of an answer, which may be an exception by its type as well (a ``Reply``)."""

    error: Exception


class _Again(NamedTuple):
    """The run that a job shared gave it no answer: it is run alone; ``never_more``: so is every later one."""

    never_more: bool


class Lanes:
    """The lanes of one model. Times in seconds; at most ``queue`` requests wait."""

    def __init__(self, session: Session, *, threads: int, timeout_s: float, queue: int, figures: Figures) -> None:
        self._session = session
        self._timeout = timeout_s
        self._queue_limit = queue
        self._figures = figures
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="score")
        self._idle = self._threads = threads
        self._waiting: deque[Job] = deque()
        self._running: set[asyncio.Future[list[tuple[Job, Any]]]] = set()
        self._decoding = threading.Lock()
        self._doubted = False
        self._inline_options: Any = None
        self._usual_bytes = 0.0
        self._grown = False
        self._batches = Batches()
        self._why_alone = "its runs have not been measured yet"
        self._last_batch = 1
        self._alarm: asyncio.TimerHandle | None = None
        figures.queue_depth = self._waiting.__len__
        figures.running = self._running.__len__
        figures.batch_limit = lambda: self._batches.size

    @property
    def inline(self) -> bool:
        return self._inline_options is not None

    @property
    def batches(self) -> Batches:
        return self._batches

    def run_inline(self) -> None:
        """Small requests are run on the event loop from now on."""
        self._inline_options = self._session.options()

    @property
    def why_alone(self) -> str:
        """Why each request has a run of its own; empty where requests share runs."""
        return "" if self._batches.size > 1 else self._why_alone

    def run_batches(self, batches: Batches) -> None:
        """Requests that wait are run together from now on."""
        self._batches = batches

    def run_alone(self, why: str) -> None:
        """Each request has a run of its own from now on."""
        self._batches, self._why_alone = Batches(), why

    def submit(
        self, size: int, decode: Callable[[], Feeds], encode: Callable[[Values, float], Any]
    ) -> Any | asyncio.Future[Any]:
        """What ``encode`` returns, at once or as a future; ``size`` is the body's length in bytes.

        Raises:
            Busy: too many wait already.
            EdgefleetError: as ``decode``, the run and ``encode`` raise (from the future where there is one).
        """
        if self._inline_options is not None and size <= INLINE_BYTES:
            return self._at_once(decode, encode)
        if len(self._waiting) >= self._queue_limit:
            self._forget_the_gone()
        if len(self._waiting) >= self._queue_limit:
            self._figures.refused += 1
            raise Busy(f"{len(self._waiting)} requests are waiting already", remedy="try again in a moment")
        job = Job(size, decode, encode, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._pump()
        return job.future

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """Run something else in one of the lanes' threads: loading, measuring."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def close(self) -> None:
        """Release the threads, once what is in the lanes has been answered."""
        while self._running or self._waiting:
            self._pump(due=True)
            if self._running:
                await asyncio.wait(self._running)
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)

    def _at_once(self, decode: Callable[[], Feeds], encode: Callable[[Values, float], Any]) -> Any:
        born = time.perf_counter()
        feeds = decode()
        # The processor's time is a system call: asked for only once a model was slow by the clock.
        used = time.thread_time() if self._doubted else 0.0
        decoded = time.perf_counter()
        values = self._session.run(feeds, self._trimming() if self._grown else self._inline_options)
        ran = time.perf_counter()
        answer = encode(values, (ran - decoded) * 1000)
        self._figures.observe_inline(decoded - born, ran - decoded, time.perf_counter() - ran)
        if ran - decoded > TOO_LONG_INLINE_S:
            # Not by the clock alone: a run that others kept from the processor would wait in a thread as well.
            if self._doubted and time.thread_time() - used > TOO_LONG_INLINE_S:
                log.info("a run took %.0f ms: requests are run in threads from now on", (ran - decoded) * 1000)
                self._inline_options = None
            self._doubted = True
        return answer

    def _pump(self, *, due: bool = False) -> None:
        """Give what waits to idle threads. ``due``: the first in the queue has waited for company long enough."""
        loop = asyncio.get_running_loop()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while self._idle and self._waiting:
            wanted = min(self._batches.size, self._last_batch)
            if len(self._waiting) < wanted and not due and not self._waiting[0].alone:
                # Clients whose answers left together come back together: wait for them, but not for long.
                remaining = self._waiting[0].born + self._batches.delay_s - time.perf_counter()
                if remaining > 0:
                    self._alarm = loop.call_later(remaining, lambda: self._pump(due=True))
                    return
            due = False
            jobs = self._together()
            if jobs:
                self._last_batch = len(jobs)
                self._start(loop, jobs)

    def _together(self) -> list[Job]:
        """The next that wait, as many as may share a run; those whose clients have gone are dropped."""
        jobs: list[Job] = []
        room = self._batches.body_bytes
        while self._waiting and len(jobs) < self._batches.size and (not jobs or self._waiting[0].size <= room):
            if self._waiting[0].alone and jobs:
                break
            job = self._waiting.popleft()
            if job.future.done():
                continue
            jobs.append(job)
            room -= job.size
            if job.alone:
                break
        return jobs

    def _forget_the_gone(self) -> None:
        """Those who wait no longer take nobody's place in the queue."""
        here = [job for job in self._waiting if not job.future.done()]
        self._waiting.clear()
        self._waiting.extend(here)

    def _start(self, loop: asyncio.AbstractEventLoop, jobs: list[Job]) -> None:
        self._idle -= 1
        options = self._trimming() if self._grown else self._session.options()
        timer = loop.call_at(loop.time() + self._timeout, self._session.stop, options)
        running = loop.run_in_executor(self._pool, self._work, jobs, options)
        self._running.add(running)

        def done(finished: asyncio.Future[list[tuple[Job, Any]]]) -> None:
            timer.cancel()
            self._running.discard(finished)
            self._idle += 1
            if not finished.cancelled():
                for job, outcome in reversed(finished.result()):
                    if isinstance(outcome, _Again):
                        self._run_again(job, outcome)
                    else:
                        _settle(job.future, outcome)
            self._pump()

        running.add_done_callback(done)

    def _trimming(self) -> Any:
        """Options of the run after an outlier: by then the outlier's own outputs are no longer in that memory."""
        self._grown = False
        return self._session.options(trim=True)

    def _weigh(self, feeds: Feeds, values: Values) -> None:
        size = sum(getattr(one, "nbytes", 0) for one in (*feeds.values(), *values))
        self._grown = self._grown or size > max(OUTLIER_BYTES, OUTLIER_TIMES * self._usual_bytes)
        self._usual_bytes += 0.1 * (size - self._usual_bytes)

    def _run_again(self, job: Job, outcome: _Again) -> None:
        if outcome.never_more and self._batches.size > 1:
            self.run_alone("a shared run gave another number of rows than it was given")
            log.error("%s: requests are run one by one from now on", self._why_alone)
        job.alone = True
        self._waiting.appendleft(job)

    def _work(self, jobs: list[Job], options: Any) -> list[tuple[Job, Any]]:
        """Decode, run and encode in this thread; each job with its answer or its failure."""
        found: list[tuple[Job, Any]] = []
        groups: list[list[Job]] = []
        open_groups: dict[Any, tuple[list[Job], float]] = {}
        begun = time.perf_counter()
        for job in jobs:
            try:
                job.feeds = job.feeds or self._decoded(job)
            except Exception as error:  # noqa: BLE001 - handed to the one who asked
                found.append((job, _Failure(error)))
                continue
            length = shared_run.rows(job.feeds) if len(jobs) > 1 else 0
            key = shared_run.key(job.feeds) if length else id(job)
            group, room = open_groups.get(key, ([], 0.0))
            if length > room or not length:
                group, room = [], self._batches.rows
                groups.append(group)
            group.append(job)
            open_groups[key] = group, room - length
        decoded = time.perf_counter()
        for group in groups:
            found += self._run_group(group, options, begun, decoded)
        return found

    def _decoded(self, job: Job) -> Feeds:
        """Large bodies take many times their size while they are read: one at a time."""
        if job.size <= DECODED_ALONE_BYTES:
            return job.decode()
        with self._decoding:
            return job.decode()

    def _run_group(self, group: list[Job], options: Any, begun: float, decoded: float) -> list[tuple[Job, Any]]:
        started = time.perf_counter()
        try:
            together = shared_run.joined([job.feeds for job in group])
            values = self._session.run(together, options)
        except Exception as error:  # noqa: BLE001 - handed to the ones who asked
            # One of them may have spoilt it for the others, or taken the time that was for all.
            return [(job, _Failure(error) if len(group) == 1 else _Again(never_more=False)) for job in group]
        ran = time.perf_counter()
        self._weigh(together, values)
        parts = [values]
        if len(group) > 1:
            lengths = [shared_run.rows(job.feeds) for job in group]
            if not shared_run.fits(values, sum(lengths)):
                return [(job, _Again(never_more=True)) for job in group]
            parts = shared_run.split(values, lengths)
        found: list[tuple[Job, Any]] = []
        for job, part in zip(group, parts, strict=True):
            try:
                found.append((job, job.encode(part, (ran - started) * 1000)))
            except Exception as error:  # noqa: BLE001 - handed to the one who asked
                found.append((job, _Failure(error)))
            now = time.perf_counter()
            self._figures.observe(decoded - begun, begun - job.born, ran - started, now - ran, len(group))
        return found


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():
        return
    if not isinstance(outcome, _Failure):
        future.set_result(outcome)
        return
    if isinstance(outcome.error, EdgefleetError):
        # Its traceback leads back to the job: both, and the request's body, would wait for the garbage collector.
        outcome.error.with_traceback(None)
    future.set_exception(outcome.error)
