"""Who calls whom: look, decide, act, report; woken by a message, by a finished step, or when the plan asks for it.

Long steps run as tasks, one for each lane of a slot, so a download never keeps a crashed module down. No plan is
remembered between two passes.
"""

import asyncio
import contextlib
import logging
import math
import sqlite3
from collections.abc import Callable
from typing import Final, Protocol

from agent.clock import Clock, known_local
from agent.execute import Executor
from agent.host import Host
from agent.observe import Observer
from agent.outbox import Outbox
from agent.phases import TABLE
from agent.plan import left_over, plan
from agent.router import Router
from agent.slots import Slot, Watched
from agent.steps import Lane, Step
from agent.store import ORDER, Store
from agent.supply import Supply
from modules.errors import EdgefleetError, EngineBusy, NoEngine
from modules.names import Slug
from modules.needs import HostFacts
from modules.protocol.phases import Phase

_log = logging.getLogger(__name__)
_FACTS_EVERY_S: Final = 60.0
_HOST_WITHIN_S: Final = 5.0


class Measurer(Protocol):
    """What the loop knows of ``agent.measurer``."""

    def due(self, slots: tuple[Slot, ...]) -> float: ...

    async def look(self, slots: tuple[Slot, ...], busy: Callable[[Slug], bool]) -> None: ...


class Loop:
    """The agent's heart: everything it does, it does because a pass of this loop decided it."""

    def __init__(
        self,
        *,
        store: Store,
        host: Host,
        observer: Observer,
        executor: Executor,
        supply: Supply,
        outbox: Outbox,
        router: Router,
        measurer: Callable[[], Measurer],
        clock: Clock,
        poll_s: float,
    ) -> None:
        self._store = store
        self._host = host
        self._observer = observer
        self._executor = executor
        self._supply = supply
        self._outbox = outbox
        self._router = router
        self._make_measurer = measurer
        self._measurer: Measurer | None = None
        self._clock = clock
        self._poll_s = poll_s
        self._wake = asyncio.Event()
        self._tasks: dict[tuple[Slug, Lane], asyncio.Task[None]] = {}
        # Slots whose rows are about to be replaced: no step is begun for them.
        self._changing: set[Slug] = set()
        # Instances that a newer order took out of their row, and those of them that are being stopped.
        self._superseded: set[str] = set()
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._facts_at = -_FACTS_EVERY_S
        self._pruned: tuple[Slot, ...] | None = None  # not yet, which is not the same as for no slots
        self._let_go: tuple[Slot, ...] | None = None
        self._letting_go: asyncio.Task[None] | None = None
        self._saying: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[HostFacts] | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._resumed = False
        self._outage_logged = False
        self.passes = 0

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    async def replace(
        self, change: Callable[[tuple[Slot, ...]], tuple[Slot, ...]], remember: Callable[[], None]
    ) -> None:
        """Make what ``change`` returns of the rows the device's; what is being done for those is ended first.

        ``remember`` is called in the transaction that writes them.
        """
        lanes: tuple[Lane, ...] = ("work", "keep")
        try:
            # Asked again each time, because a step that ends may still have moved its row on.
            while (rows := change(self._store.slots())) and not self._changing.issuperset(row.slot for row in rows):
                self._changing.update(row.slot for row in rows)
                ends = [(row.slot, lane) for row in rows for lane in lanes]
                removed = {row.slot for row in rows if row.phase is Phase.REMOVING}
                await self._end([(slot, lane) for slot, lane in ends if lane == "work" or slot in removed])
            before = self._store.slots()
            with self._store.together():
                for row in rows:
                    self._store.save(row)
                remember()
            self._superseded.update(
                left_over(self._store.slots(), (one.candidate.instance for one in before if one.candidate))
            )
        finally:
            self._changing.clear()
        self._router()

    async def restart(self, name: Slug) -> None:
        """Start a slot's committed module again because somebody asked for it, in the lane that keeps it up.

        Raises:
            Invalid: there is no such slot, or nothing is committed in it.
            EngineBusy: its module is being replaced just now.
            EdgefleetError, OSError: it was not started again; the loop goes on trying.
        """
        lane: Lane = "keep"
        key = (name, lane)
        while (under_way := self._tasks.get(key)) is not None:
            await asyncio.wait([under_way])
            self._done(key, under_way)
        if name in self._changing:
            raise EngineBusy("an order is being adopted", element=name, remedy="ask anew")
        task = asyncio.create_task(self._executor.restart(name), name=f"{name}-restart")
        self._tasks[key] = task
        task.add_done_callback(lambda ended: self._done(key, ended))
        await asyncio.wait([task])
        if task.cancelled():
            raise EngineBusy("an order, or the agent's end, came in between", element=name, remedy="ask anew")
        task.result()

    async def run(self) -> None:
        """Work until cancelled; the steps in progress are ended then, and resumed by the next start."""
        await self._host.look()
        try:
            while True:
                self._wake.clear()
                look_again = await self._guarded()
                self.passes += 1
                wait = max(0.0, look_again - self._clock.monotonic())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
        finally:
            await self._end(list(self._tasks))
            for stopping in self._stopping.values():
                stopping.cancel()
            await asyncio.gather(*self._stopping.values(), return_exceptions=True)
            await self._observer.close()
            for beside in (self._saying, self._letting_go, self._looking, self._measuring):
                if beside is not None:
                    beside.cancel()
                    await asyncio.wait([beside])

    async def _guarded(self) -> float:
        """One pass; what goes wrong in it, a full disk above all, must not take supervision away."""
        try:
            if not self._resumed:
                self._resume()
            look_again = await self._pass()
        except sqlite3.DatabaseError:
            raise  # damaged while it was open: the next start sets it aside, and makes it anew
        except Exception as error:  # noqa: BLE001 - orders still come, and may take away what is to blame
            if not self._outage_logged:
                ours = not isinstance(error, EdgefleetError | OSError)
                _log.error("a pass failed, and is tried again: %s", error, exc_info=error if ours else None)
                self._outage_logged = True
            return self._clock.monotonic() + self._poll_s
        if self._outage_logged:
            _log.warning("passes succeed again")
            self._outage_logged = False
        return look_again

    def _resume(self) -> None:
        """After a start: each row goes on where its phase says, and the gateway gets its table without any network."""
        rebooted = self._store.text("boot") != self._clock.boot()
        for row in self._store.slots():
            self._executor.resume(row)
            slot = row.in_new_boot() if rebooted else row
            resume = TABLE[slot.phase].after_boot if rebooted else TABLE[slot.phase].resume
            if resume is not slot.phase:
                slot = slot.to(resume, self._clock.now(), attempts=slot.target.attempts, candidate=None)
            if slot is not row:
                self._store.save(slot)
        self._store.keep_text("boot", self._clock.boot())
        self._router()
        self._resumed = True

    async def _pass(self) -> float:
        now = self._clock.monotonic()
        slots = self._store.slots()
        # An engine that somebody waits for is found as soon as it is back.
        missed = any(slot.reason is not None and slot.reason.code == NoEngine.code for slot in slots)
        if missed or now - self._facts_at >= _FACTS_EVERY_S:
            self._facts_at = now
            await self._look_at_host()
        # What could not be written when the traffic was moved is written now.
        self._router()
        restarting = {slot for slot, lane in self._tasks if lane == "keep"}
        seen, running = await self._observer.look(slots, self.wake)
        # Rows may have changed during the look; the decision is made on what they are now.
        slots = self._store.slots()
        # What was being started when the look began may have been seen before it was there: that is no evidence.
        seen = seen.without({row.current.instance for row in slots if row.current and row.slot in restarting})
        local = known_local(self._clock)
        decision = plan(slots, seen, now=self._clock.monotonic(), poll_s=self._poll_s, local=local)
        for step in decision.steps:
            if (step.slot.slot, step.lane) not in self._tasks and step.slot.slot not in self._changing:
                self._start(step)
        if self._saying is None or self._saying.done():
            self._saying = asyncio.create_task(self._say(), name="say")
        for instance in self._superseded.intersection(left_over(slots, running)) - self._stopping.keys():
            self._stopping[instance] = asyncio.create_task(
                self._leave(instance, running[instance]), name=f"stop-{instance}"
            )
        if not self._tasks and not self._stopping:
            await self._tidy(slots, running)
        return min(decision.look_again, self._measure(slots))

    def _measure(self, slots: tuple[Slot, ...]) -> float:
        """Measure beside the loop what is due; when to come back for it: what is under way wakes the loop itself."""
        if self._measuring is not None:
            return math.inf
        if self._measurer is None:
            if not any(slot.target.measure for slot in slots):
                return math.inf  # most agents never load what measures
            self._measurer = self._make_measurer()
        due = self._measurer.due(slots)
        if due <= self._clock.monotonic():
            self._measuring = asyncio.create_task(self._measured(self._measurer, slots), name="measure")
            return math.inf
        return due

    async def _measured(self, measurer: Measurer, slots: tuple[Slot, ...]) -> None:
        try:
            await measurer.look(slots, lambda name: any(slot == name for slot, _ in self._tasks))
        except Exception:  # noqa: BLE001 - whatever it is, it is logged, and everything else goes on
            _log.exception("nothing was measured, it is tried again")
            await self._clock.sleep(self._poll_s)
        finally:
            self._measuring = None
            self.wake()

    async def _look_at_host(self) -> None:
        """A new look, waited for a moment: an engine that hangs must not hold up the pass; it is told of later."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._host.look(), name="host")
        done, _ = await asyncio.wait([self._looking], timeout=_HOST_WITHIN_S)
        if done:
            self._looking.result()

    async def _leave(self, instance: str, engine: str) -> None:
        """Stop what a newer order superseded now, beside the download of the newer module: it needs the memory."""
        try:
            await self._executor.stop_left_over(instance, engine)
            self._superseded.discard(instance)
            self._pruned = None  # it has left its folder behind
        except EdgefleetError as error:
            _log.warning("%s still runs, and is stopped later: %s", instance, error)
        finally:
            del self._stopping[instance]

    async def _say(self) -> None:
        """Report beside the loop: on a network that swallows everything, a publish takes half a minute to fail."""
        said: tuple[Slot, ...] | None = None
        try:
            while (slots := self._store.slots()) != said:
                said = slots
                await self._outbox.report(slots)
            await self._outbox.facts(self._host.facts)
        except (EdgefleetError, OSError) as error:
            _log.warning("nothing was reported, it is tried again: %s", error)

    async def _tidy(self, slots: tuple[Slot, ...], running: dict[str, str]) -> None:
        if self._store.document(ORDER) is None:
            return  # a new database knows of nothing, and what runs may be what serves: only an order says more
        # What was measured changes with each window, and leaves nothing to be tidied.
        slots = tuple(slot.with_(watched=Watched()) for slot in slots)
        stopped = set()
        for instance in left_over(slots, running):
            with contextlib.suppress(EdgefleetError):
                await self._executor.stop_left_over(instance, running[instance])
                stopped.add(instance)
        if slots != self._pruned or stopped:
            try:
                await self._executor.clear_left_over(slots, running.keys() - stopped)
                await asyncio.to_thread(self._supply.prune, slots)
            except (EdgefleetError, OSError) as error:
                _log.warning("not everything that is no longer needed could be removed: %s", error)
            self._pruned = slots
        if slots != self._let_go and (self._letting_go is None or self._letting_go.done()):
            self._letting_go = asyncio.create_task(self._let_images_go(slots), name="let-images-go")

    async def _let_images_go(self, slots: tuple[Slot, ...]) -> None:
        """Beside the loop: an engine may take long to delete a large image."""
        if await self._executor.let_go_images():
            self._let_go = slots

    def _start(self, step: Step) -> None:
        key = (step.slot.slot, step.lane)
        task = asyncio.create_task(self._take(step), name=f"{step.slot.slot}-{type(step).__name__.lower()}")
        self._tasks[key] = task
        task.add_done_callback(lambda ended: self._done(key, ended))

    async def _take(self, step: Step) -> None:
        try:
            await self._executor.take(step)
        except Exception:  # noqa: BLE001 - whatever it is, it is logged, and the other slots go on
            _log.exception("%s: %s failed", step.slot.slot, type(step).__name__)
            await self._clock.sleep(self._poll_s)

    def _done(self, key: tuple[Slug, Lane], ended: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is ended:
            del self._tasks[key]
        self.wake()

    async def _end(self, keys: list[tuple[Slug, Lane]]) -> None:
        tasks = {key: self._tasks[key] for key in keys if key in self._tasks}
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for key, task in tasks.items():
            # A task that had ended before is still there: its callback has not run yet.
            self._done(key, task)
