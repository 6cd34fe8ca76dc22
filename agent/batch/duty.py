"""Runs batch jobs while the device is idle: one at a time, in the module's own image, beside the slot that serves it.

What a job knows lies beside its answers, so ending its container is all the pausing there is, and starting it again all
the going on. What the agent knows is written down before the side effect, and what runs is asked of the engine at each
look; so it may be killed between any two steps.
"""

import asyncio
import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent.answering import Told
from agent.batch import kept, places
from agent.batch.idle import Idle
from agent.batch.kept import Job
from agent.clock import Clock
from agent.engines.contract import BATCH, MODULE_MOUNT, Instance, Task
from agent.hands import Hands
from agent.settings import Settings
from agent.slots import Placed, reason
from hardware.system import System
from modules import batch_program
from modules.batch_program import COMMAND, ITS_OWN, OUTPUTS, STARTS, TERMINATED, last_words, told
from modules.errors import EdgefleetError, Invalid, NeedsOperator
from modules.protocol.batch import MAX_JOBS, BatchOrder

LOOK_S: Final = 2.0
#: After something went wrong that may pass.
AGAIN_S: Final = 30.0
#: How far a job is, is told so often.
TELL_S: Final = 30.0
#: MiB for the program that asks, beside what the module is granted.
ASKING_MB: Final = 96
_LOG: Final = 64 << 10
_ENGINE: Final = "docker"
_log = logging.getLogger(__name__)


class _Ready(NamedTuple):
    """What a job needs to run: the module beside which it does, its inputs, and its own folder of answers."""

    placed: Placed
    inputs: Path
    answers: Path


class _No(NamedTuple):
    """Why a job may not run: until something changes, or for ever."""

    why: str
    ever: bool = False


class Duty:
    """``run`` is the duty; ``take`` and ``cancel`` are what commands ask for.

    Args:
        settings: of this agent; they name the folders.
        clock: of this agent.
        hands: what the steps of slots use.
        gateway: what the gateway says of itself.
        wake: has the agent report what has changed.
        system: the machine.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        hands: Hands,
        gateway: Callable[[], Awaitable[Told | None]],
        wake: Callable[[], None],
        system: System | None = None,
    ) -> None:
        self._settings, self._clock, self._hands, self._wake = settings, clock, hands, wake
        self._system = system or System()
        self._idle = Idle(settings, gateway, clock, self._system)
        self._news = asyncio.Event()
        self._told_at = 0.0

    async def take(self, order: BatchOrder) -> None:
        """A new job; one that is known is not taken twice.

        Raises:
            Invalid: it can never run here, or too many wait.
            NeedsOperator: a folder that it names cannot be used.
        """
        jobs = kept.read(self._hands.store)
        if any(one.order.mark == order.mark for one in jobs):
            return
        await asyncio.to_thread(places.allowed, self._settings, order.inputs, order.outputs)
        self._serving(order)
        waiting = [one for one in jobs if not one.is_over]
        if any(one.order.name == order.name for one in waiting):
            raise Invalid("a job of this name has not ended here", element=order.name, remedy="cancel it first")
        if len(waiting) >= MAX_JOBS:
            raise Invalid(f"{len(waiting)} jobs wait here", element=order.name, remedy="wait for some of them")
        self._add(Job(order=order, why="it waits for its turn"))

    def cancel(self, order: BatchOrder) -> str:
        """End a job; says what became of it."""
        found = next((one for one in kept.read(self._hands.store) if one.order.mark == order.mark), None)
        if found is None:
            # Its start may come later, and must not begin what was cancelled.
            self._add(Job(order=order, state="cancelled"))
            return "it was not known here, and is not begun any more"
        if found.is_over:
            return f"it has ended: {found.state}"
        self._add(msgspec.structs.replace(found, state="cancelled", why=""))
        return "cancelled"

    async def run(self) -> None:
        """Look after the jobs until cancelled; the one that runs ends then, as nobody would see when to pause it."""
        try:
            while True:
                self._news.clear()
                wait_s = await self._guarded()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._news.wait()
        finally:
            await self._end_all()

    async def _guarded(self) -> float | None:
        """A turn; what goes wrong in it takes nothing else away, and is tried again."""
        try:
            return await self.turn()
        except sqlite3.DatabaseError:
            raise  # damaged while it was open: the next start of the agent sets it aside
        except Exception as error:  # noqa: BLE001 - whatever a job brings about, what serves goes on
            ours = not isinstance(error, EdgefleetError | OSError)
            _log.warning("a batch job does not go on, and is tried again: %s", error, exc_info=error if ours else None)
            with contextlib.suppress(EdgefleetError, OSError):
                self._note(reason(error).message)
            return AGAIN_S

    async def turn(self) -> float | None:
        """One look, and what follows from it; in how many seconds to look again, None: once there is a job."""
        waiting = [one for one in kept.read(self._hands.store) if not one.is_over]
        job, instance = await self._instance(waiting)
        if not waiting:
            return None
        if job is not None and instance is not None:
            if instance.state == "exited":
                await self._ended(job, instance)
                return 0.0
            if instance.state == "running":
                await self._goes_on(await self._further(job))
                return LOOK_S
        # Asked at each look, whatever else is in the way: what it has measured must not grow old.
        busy = await self._idle.why_not(self._hands.store.slots(), None)
        return await self._next(waiting, busy)

    async def _next(self, waiting: Sequence[Job], busy: str) -> float:
        """Begin the first that can; what holds one up, its folder for one, holds up no other behind it."""
        again_s = LOOK_S
        for job in waiting:
            try:
                found = await self._ready(job)
                if isinstance(found, _Ready):
                    if busy:
                        self._pause(job, busy)
                        return LOOK_S
                    if await self._start(job, found):
                        return LOOK_S
                elif found.ever:
                    self._move(msgspec.structs.replace(job, state="failed", why=found.why))
                else:
                    self._pause(job, found.why)
            except (EdgefleetError, OSError) as error:
                _log.warning("batch job %s does not begin, and is tried again: %s", job.order.name, error)
                self._pause(job, reason(error).message)
                again_s = AGAIN_S
        return again_s

    async def _goes_on(self, job: Job) -> None:
        """The one that runs: whether it still may."""
        usage = await self._hands.engine(_ENGINE).usage(_name(job))
        busy = await self._idle.why_not(self._hands.store.slots(), usage.cpu_s if usage else None)
        found = await self._ready(job)
        if isinstance(found, _Ready):
            why = busy or ("" if job.beside == _beside(found.placed) else "it begins anew with the secrets of now")
            if not why:
                return
            found = _No(why)
        if found.ever:
            # Its container is ended by the next look, as any of a job that is over.
            self._move(msgspec.structs.replace(job, state="failed", why=found.why))
            self._news.set()
            return
        self._pause(job, found.why)
        _log.info("batch job %s pauses: %s", job.order.name, found.why)
        await self._stop(_name(job))

    async def _instance(self, waiting: Sequence[Job]) -> tuple[Job | None, Instance | None]:
        """The job whose container is there, and that; those of jobs that are over are ended."""
        found = [one for one in await self._hands.engine(_ENGINE).list() if one.instance.startswith(BATCH)]
        by_name = {_name(job): job for job in waiting}
        mine: tuple[Job | None, Instance | None] = (None, None)
        for one in found:
            job = by_name.get(one.instance)
            if job is not None and mine[0] is None:
                mine = (job, one)
            else:
                await self._stop(one.instance)
        return mine

    async def _further(self, job: Job) -> Job:
        """With how far its program says that it is."""
        now = self._with_progress(job, await self._log_of(job))
        if now == job or self._clock.monotonic() - self._told_at < TELL_S:
            return now
        self._move(now)
        return now

    @staticmethod
    def _with_progress(job: Job, log: str) -> Job:
        said = next(filter(None, map(told, reversed(log.split("\n")))), None)
        if said is None:
            return job
        return msgspec.structs.replace(job, items=said.items, answered=said.answered, set_aside=said.set_aside)

    async def _ready(self, job: Job) -> _Ready | _No:
        """Whether it may run now, as far as that is its own affair."""
        order = job.order
        try:
            placed = self._serving(order)
            inputs, place = await asyncio.to_thread(places.allowed, self._settings, order.inputs, order.outputs)
        except Invalid as error:
            return _No(str(error), ever=True)
        except NeedsOperator as error:
            return _No(str(error))
        folder = place / order.name
        if await asyncio.to_thread(places.taken, folder, self._settings.batch_bytes):
            most = self._settings.batch_bytes
            return _No(f"its folder of answers has more in it than {most} bytes (batch_bytes) of answers", ever=True)
        if await asyncio.to_thread(lambda: shutil.disk_usage(place).free) < self._settings.disk_reserve:
            return _No("the disk of the answers has no more than the reserve (disk_reserve) left")
        return _Ready(placed, inputs, folder)

    def _serving(self, order: BatchOrder) -> Placed:
        """The committed instance of a job's module.

        Raises:
            Invalid: no slot has it, or it is not confined.
        """
        for slot in self._hands.store.slots():
            if slot.current is not None and slot.current.wanted.digest == order.module:
                if slot.current.wanted.engine != _ENGINE:
                    raise Invalid("the process engine confines nothing, so it runs no batch jobs", element=slot.slot)
                return slot.current
        raise Invalid(
            "no slot of this device serves the job's module", element=order.name, remedy="start a job for what serves"
        )

    async def _start(self, job: Job, ready: _Ready) -> bool:
        """Begin it, or go on; False: there is not the memory for it."""
        placed, hands = ready.placed, self._hands
        manifest = hands.shelf.manifest(placed.wanted.digest)
        launcher = hands.launcher
        answers = await asyncio.to_thread(places.answers, ready.answers.parent, job.order.name, launcher.group)
        more = ("--progress=10", f"--patience={int(AGAIN_S)}")
        arguments = batch_program.arguments(job.order.asking, module=MODULE_MOUNT, outputs=OUTPUTS)
        task = Task(
            command=COMMAND,
            arguments=(*arguments, *more),
            inputs=str(ready.inputs),
            outputs=str(answers),
            file_bytes=self._settings.batch_bytes,
        )
        launch = launcher.for_task(placed, manifest, _name(job), task, more_mb=ASKING_MB)
        if (free_mb := self._free_mb()) is not None and free_mb < launch.memory_mb:
            self._pause(job, f"it needs {launch.memory_mb} MiB of memory, and less is free")
            return False
        await hands.ensure(placed, manifest)
        _log.info("batch job %s goes on", job.order.name)
        began = {"further": job.dealt_with, "boot": self._clock.boot(), "beside": _beside(placed)}
        if self._move(msgspec.structs.replace(job, state="running", why="", **began)):
            await hands.engine(_ENGINE).start(launch)
        return True  # or it was cancelled meanwhile

    async def _ended(self, job: Job, instance: Instance) -> None:
        """Its program has ended by itself, or was ended: what that means for it is written down first."""
        log = await self._log_of(job)
        job = self._with_progress(job, log)
        code = instance.exit_code
        if code == 0:
            job = msgspec.structs.replace(job, state="done", why="")
        elif code in ITS_OWN:
            job = msgspec.structs.replace(job, state="failed", why=last_words(log) or f"it ended with exit code {code}")
        elif code != TERMINATED and job.boot == self._clock.boot():
            how = "its memory ran out" if instance.oom else f"it ended with exit code {code}"
            starts = 1 if job.dealt_with > job.further else job.starts + 1
            over = f"{how}, {starts} times without coming further: {last_words(log)}"
            values = {"state": "failed", "why": over} if starts >= STARTS else {"state": "paused", "why": how}
            job = msgspec.structs.replace(job, starts=starts, **values)
        self._move(job)
        await self._stop(instance.instance)

    async def _log_of(self, job: Job) -> str:
        return await self._hands.engine(_ENGINE).logs(_name(job), tail_bytes=_LOG)

    async def _stop(self, instance: str) -> None:
        await self._hands.end(instance, _ENGINE)

    async def _end_all(self) -> None:
        with contextlib.suppress(EdgefleetError, OSError):
            await self._instance(())

    def _free_mb(self) -> int | None:
        """Memory that a program could have now; None where the kernel does not say."""
        for line in self._system.read("/proc/meminfo").splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable" and (words := rest.split()) and words[0].isdecimal():
                return int(words[0]) >> 10
        return None

    def _pause(self, job: Job, why: str) -> None:
        if (job.state, job.why) != ("paused", why):
            self._move(msgspec.structs.replace(job, state="paused", why=why))

    def _note(self, why: str) -> None:
        job = next((one for one in kept.read(self._hands.store) if not one.is_over), None)
        if job is not None:
            self._pause(job, why)

    def _move(self, job: Job) -> bool:
        """Write down where a job is by now, unless it is over: somebody may have cancelled it meanwhile."""
        known = next((one for one in kept.read(self._hands.store) if one.order.mark == job.order.mark), None)
        if known is None or known.is_over:
            return False
        self._put(job)
        return True

    def _add(self, job: Job) -> None:
        self._put(job)
        self._news.set()

    def _put(self, job: Job) -> None:
        kept.put(self._hands.store, job)
        self._told_at = self._clock.monotonic()
        self._wake()


def _name(job: Job) -> str:
    return f"{BATCH}{job.order.mark}"


def _beside(placed: Placed) -> str:
    """Whose secrets a job has, and which: their files go with the instance; empty: there are none."""
    versions = ",".join(f"{name}={version}" for name, version in sorted(placed.given.items()))
    return f"{placed.instance}:{versions}" if versions else ""
