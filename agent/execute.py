"""What each step does to the device: one arm per step, and nothing else changes anything.

The row is written, synced, before each side effect, and read again before each write: the two lanes of a slot never
overwrite each other's news.
"""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import msgspec

from agent.choose import choose
from agent.clock import Clock, backoff
from agent.engines.contract import ContainerEngine
from agent.launch import Launcher
from agent.plan import MAX_STARTS
from agent.shelf import Shelf
from agent.slots import Placed, Slot, Target, Upkeep, reason
from agent.steps import (
    Commit,
    Fetch,
    FinishRevert,
    Fit,
    Recover,
    Remove,
    Restart,
    Revert,
    Stage,
    Start,
    StartAgain,
    Step,
)
from agent.store import Store
from agent.supply import Supply
from agent.verdict import Evidence, stopped
from modules.errors import (
    EdgefleetError,
    LinkLost,
    NeedsOperator,
    NoEngine,
    NoSpace,
    Refused,
    Transient,
    Unfit,
    Unproved,
)
from modules.manifest import Image, Manifest
from modules.needs import HostFacts
from modules.protocol.phases import Phase
from modules.protocol.report import Reason

_log = logging.getLogger(__name__)
_RETRY_MOST_S: Final = 300.0
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Executor:
    """Takes steps.

    ``routed`` is called after each change that moves traffic, before the next side effect. ``untaken`` says why the
    gateway does not use yet what it was told last; empty: it does.
    """

    def __init__(
        self,
        *,
        store: Store,
        shelf: Shelf,
        supply: Supply,
        launcher: Launcher,
        engines: Mapping[str, ContainerEngine],
        facts: Callable[[], HostFacts],
        routed: Callable[[], None],
        untaken: Callable[[], Awaitable[str]],
        clock: Clock,
        stop_grace_s: float,
        retry_s: float,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._supply = supply
        self._launcher = launcher
        self._engines = engines
        self._facts = facts
        self._routed = routed
        self._untaken = untaken
        self._clock = clock
        self._stop_grace_s = stop_grace_s
        self._retry_s = retry_s
        # Restarts that a full disk kept from being counted: how many, and until when the next one waits.
        self._unwritten: dict[str, tuple[int, float]] = {}

    async def take(self, step: Step) -> None:
        """Take one step; what goes wrong is written into the row, with what follows from it."""
        slot = step.slot
        _log.info("%s: %s %s", slot.slot, type(step).__name__.lower(), slot.wanted.module)
        try:
            await self._arm(step)
        except EdgefleetError as error:
            await self._went_wrong(step, error)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            full = NoSpace(str(error.strerror), element=str(error.filename or "disk"), remedy="free disk space")
            await self._went_wrong(step, full)

    async def _went_wrong(self, step: Step, error: EdgefleetError) -> None:
        if step.lane == "keep":
            self._not_kept(step.slot, error)
        elif isinstance(error, Refused | Unproved):
            try:
                await self._failed(step.slot, error)
            except (NeedsOperator, Transient) as silent:
                self._later(step.slot, silent)
        else:
            self._later(step.slot, error)

    async def _arm(self, step: Step) -> None:  # noqa: C901 - a list of arms, one line each
        match step:
            case Fit(slot):
                self._fit(slot)
            case Fetch(slot):
                await self._fetch(slot)
            case Stage(slot):
                await self._stage(slot)
            case Start(slot):
                await self._start(slot)
            case StartAgain(slot, why):
                await self._start_again(slot, why)
            case Commit(slot):
                await self._commit(slot)
            case Revert(slot, why):
                await self._revert(slot, why)
            case FinishRevert(slot):
                await self._finish_revert(slot)
            case Remove(slot):
                await self._remove(slot)
            case Restart(slot, why):
                await self._restart(slot, why)
            case Recover(slot):
                self._recover(slot)
            case _:
                raise RuntimeError(f"no arm for {step}")

    # The way of a wanted module

    def _fit(self, slot: Slot) -> None:
        if failed := self._store.failed(slot.wanted.digest):
            raise Unfit(
                f"this content failed here before: {failed.message}",
                remedy="order a waiver for its digest to try again",
            )
        facts, engine = self._facts(), slot.wanted.engine
        if engine in self._engines and engine not in {one.name for one in facts.engines}:
            # It was not there at the last look at the host; that says nothing about the module.
            raise NoEngine(f"the {engine} engine does not answer", remedy="see edgefleet-agent doctor")
        manifest = self._shelf.manifest(slot.wanted.digest)
        self._to(slot, Phase.FITTED, chosen=choose(manifest, facts, slot.wanted))

    async def _fetch(self, slot: Slot) -> None:
        if slot.phase is Phase.FITTED:
            self._to(slot, Phase.FETCHING)
        manifest = self._shelf.manifest(slot.wanted.digest)
        image = self._image(slot.target, manifest)
        await self._supply.fetch(manifest, image, self._engines.get(slot.wanted.engine), self._progress(slot))
        self._to(slot, Phase.VERIFIED)

    def _progress(self, slot: Slot) -> Callable[[float], None]:
        def tell(share: float) -> None:
            self._change(slot, lambda row: row.with_(progress=round(share, 3)))

        return tell

    async def _stage(self, slot: Slot) -> None:
        manifest = self._shelf.manifest(slot.wanted.digest)
        try:
            await asyncio.to_thread(self._supply.lay_out, slot.wanted.digest, manifest)
            if image := self._image(slot.target, manifest):
                await self._supply.load(image, self._engine(slot))
        except FileNotFoundError as error:
            _log.warning("%s: fetched again, for it went missing: %s", slot.slot, error)
            self._to(slot, Phase.FETCHING)
            return
        self._to(slot, Phase.STAGED)

    async def _start(self, slot: Slot) -> None:
        manifest = self._shelf.manifest(slot.wanted.digest)
        placed = self._launcher.place(slot.slot, slot.target, manifest)
        tries = slot.target.attempts
        if slot.phase is Phase.STARTING:
            slot = self._to(slot, Phase.STAGED, attempts=tries)
        self._to(slot, Phase.STARTING, attempts=tries + 1, candidate=placed)
        placed = await self._launcher.start(placed, manifest, self._engine(slot), prove_it=True)
        self._to(slot, Phase.PROBATION, candidate=placed)
        self._routed()

    async def _start_again(self, slot: Slot, why: Reason) -> None:
        """Not for ever: what always ends like that is no good, whoever ends it."""
        if slot.target.stopped + 1 >= MAX_STARTS:
            await self._revert(slot, why)
            return
        _log.warning("%s: %s is started again: %s", slot.slot, slot.wanted.module, why.message)
        old = slot.candidate
        self._to(slot, Phase.STAGED, candidate=None, reason=why, stopped=slot.target.stopped + 1)
        self._routed()
        await self._stop(old)

    async def _was_stopped(self, placed: Placed | None) -> bool:
        """Whether somebody ended it, as far as its engine knows.

        Raises:
            NoEngine, EngineBusy: the engine does not say.
        """
        if placed is None:
            return False
        found = {one.instance: one for one in await self._engine_named(placed.wanted.engine).list()}
        return placed.instance in found and stopped(Evidence(instance=found[placed.instance]))

    async def _commit(self, slot: Slot) -> None:
        if problem := await self._untaken():
            # Done means that it serves: without the gateway it has had no traffic to prove itself by.
            raise LinkLost(f"the probation goes on: {problem}", element="gateway", remedy="see edgefleet-agent doctor")
        old = slot.current
        fresh = {"current": slot.candidate, "upkeep": Upkeep(), "previous": old}
        self._to(slot, Phase.COMMITTED, candidate=None, **fresh)
        self._routed()
        await self._stop(old)

    # Back to what worked

    async def _failed(self, slot: Slot, error: EdgefleetError) -> None:
        """Content that cannot be accepted is rejected before it ran, and reverted once something was started."""
        row = self._row(slot)
        if row.phase is Phase.STARTING and await self._was_stopped(row.candidate):
            await self._start_again(row, reason(error))
        elif row.phase in {Phase.STARTING, Phase.PROBATION}:
            await self._revert(row, reason(error))
        elif row.phase in {Phase.ACCEPTED, Phase.FETCHING, Phase.VERIFIED}:
            _log.warning("%s: rejected: %s", slot.slot, error)
            self._to(row, Phase.REJECTED, reason=reason(error))
        else:
            self._later(slot, error)

    async def _revert(self, slot: Slot, why: Reason) -> None:
        _log.warning("%s: reverting %s: %s", slot.slot, slot.wanted.module, why.message)
        with self._store.together():
            self._store.remember_failed(slot.wanted.digest, why, self._clock.now())
            row = self._to(slot, Phase.REVERTING, reason=why)
        await self._finish_revert(row)

    async def _finish_revert(self, slot: Slot) -> None:
        """Traffic first, then the stop. Without a candidate it is the committed module that goes."""
        candidate, bad, previous = slot.candidate, slot.current, slot.previous
        if candidate is None and bad is not None and previous is not None and bad.wanted == slot.wanted:
            manifest = self._shelf.manifest(previous.wanted.digest)
            placed = self._launcher.place(slot.slot, previous, manifest)
            await self._ensure_image(previous, manifest)
            placed = await self._relaunch(placed, manifest)
            slot = self._change(slot, lambda row: row.with_(current=placed, previous=None, upkeep=Upkeep()))
            self._routed()
            await self._stop(bad)
        else:
            self._routed()
            await self._stop(candidate)
        self._to(slot, Phase.REVERTED, reason=slot.target.reason, candidate=None)

    # The committed module

    async def _restart(self, slot: Slot, why: Reason) -> None:
        old = slot.current
        if old is None or self._held_back(slot) or not self._is_current(slot, old):
            return
        _log.warning("%s: restarting %s: %s", slot.slot, old.wanted.module, why.message)
        try:
            await self._restart_anew(slot, old, why)
        except NoSpace as full:
            await self._restart_in_place(slot, old, full)

    def _held_back(self, slot: Slot) -> bool:
        return self._unwritten.get(slot.slot, (0, 0.0))[1] > self._clock.monotonic()

    async def _restart_in_place(self, slot: Slot, old: Placed, full: NoSpace) -> None:
        """Nothing can be written, so the module is started again under the name and at the socket that it had."""
        tries = self._unwritten.get(slot.slot, (0, 0.0))[0] + 1
        self._unwritten[slot.slot] = (tries, self._clock.monotonic() + backoff(tries))
        if tries == 1:
            _log.warning("%s: the restart cannot be written down, and is done all the same: %s", slot.slot, full)
        await self._stop(old)
        manifest = self._shelf.manifest(old.wanted.digest)
        await self._ensure_image(old, manifest)
        await self._relaunch(old, manifest)

    async def _restart_anew(self, slot: Slot, old: Placed, why: Reason) -> None:
        now, tries = self._clock.monotonic(), slot.upkeep.restarts + 1
        self._change(slot, lambda row: row.with_(restarts=tries, restart_after=now + backoff(tries), trouble=why))
        self._unwritten.pop(slot.slot, None)
        manifest = self._shelf.manifest(old.wanted.digest)
        placed = self._launcher.place(slot.slot, old, manifest)
        if not self._succeeds(slot, old, placed):
            return
        await self._stop(old)
        await self._ensure_image(old, manifest)
        started = await self._relaunch(placed, manifest)
        if self._succeeds(slot, placed, started, trouble=None):
            self._routed()

    async def _relaunch(self, placed: Placed, manifest: Manifest) -> Placed:
        """Start what was committed. What does not become ready is stopped: it runs, and would be taken for serving."""
        try:
            return await self._launcher.start(placed, manifest, self._engine_named(placed.wanted.engine))
        except Unproved:
            await self._stop(placed)
            raise

    def _succeeds(self, slot: Slot, before: Placed, after: Placed, **changes: object) -> bool:
        """Put ``after`` in the place of ``before``, unless a commit or a revert has taken that place meanwhile."""
        current = self._row(slot).current
        if current is None or current.instance != before.instance:
            return False
        # An order may have routed it elsewhere meanwhile.
        placed = msgspec.structs.replace(after, routing=current.routing)
        self._change(slot, lambda row: row.with_(current=placed, **changes))
        return True

    def _is_current(self, slot: Slot, placed: Placed) -> bool:
        current = self._row(slot).current
        return current is not None and current.instance == placed.instance

    def _not_kept(self, slot: Slot, error: EdgefleetError) -> None:
        """The committed module was not brought up; the wanted one's own way is none of its business."""
        _log.warning("%s: restart failed: %s", slot.slot, error)
        row = self._row(slot)
        if row.current and slot.current and row.current.wanted == slot.current.wanted:
            self._store.save(row.with_(trouble=reason(error)))

    def _recover(self, slot: Slot) -> None:
        self._change(slot, lambda row: row.with_(upkeep=Upkeep()))

    async def _remove(self, slot: Slot) -> None:
        self._routed()
        for placed in (slot.candidate, slot.current):
            await self._stop(placed)
        self._store.forget(slot.slot)
        self._routed()

    def resume(self, slot: Slot) -> None:
        """What has served while no agent was there: its folder is closed, if an agent died before it did that."""
        for placed in (slot.candidate, slot.current):
            if placed is not None:
                self._launcher.seal(placed)

    async def stop_left_over(self, instance: str, engine: str) -> None:
        """Stop an instance that no slot names."""
        _log.info("stopping left-over instance %s", instance)
        await self._engines[engine].stop(instance, grace_s=self._stop_grace_s)

    async def clear_left_over(self, slots: Iterable[Slot], running: Iterable[str]) -> None:
        """Remove what instances left behind that neither run nor are named by a slot."""
        named = [one.instance for slot in slots for one in (slot.candidate, slot.current) if one]
        await asyncio.to_thread(self._launcher.clear_others, [*named, *running])

    # Small things

    def _later(self, slot: Slot, error: EdgefleetError) -> None:
        """Try again after a while: the same step, from what is there by then."""
        row = self._row(slot)
        if row.phase is Phase.STARTING and isinstance(error, NeedsOperator | Transient):
            # The engine or the disk failed, or was busy, not the candidate: that start does not count against it.
            row = self._to(slot, Phase.STAGED, attempts=row.target.attempts - 1, candidate=None)
        tries = row.target.attempts + (0 if row.phase in {Phase.STAGED, Phase.STARTING} else 1)
        wait = backoff(max(tries, 1), first_s=self._retry_s, most_s=_RETRY_MOST_S)
        if row.reason is None or row.reason.code != error.code:
            _log.warning("%s: %s waits %.0f s: %s", slot.slot, row.phase, wait, error)
        until = self._clock.monotonic() + wait
        self._change(slot, lambda row: row.with_(reason=reason(error), attempts=tries, not_before=until))

    def _image(self, of: Target | Placed, manifest: Manifest) -> Image | None:
        """The image of the runtime that was chosen; the process engine needs none."""
        return None if of.wanted.engine == "process" else self._launcher.runtime(of, manifest).image

    async def _ensure_image(self, placed: Placed, manifest: Manifest) -> None:
        """Somebody may have removed the engine's images: they are made again from the layers that lie here."""
        if image := self._image(placed, manifest):
            await self._supply.ensure(manifest, image, self._engine_named(placed.wanted.engine))

    def _engine(self, slot: Slot) -> ContainerEngine:
        return self._engine_named(slot.wanted.engine)

    def _engine_named(self, name: str) -> ContainerEngine:
        try:
            return self._engines[name]
        except KeyError:
            raise NoEngine(f"this device has no {name} engine", remedy="see edgefleet-agent doctor") from None

    async def _stop(self, placed: Placed | None) -> None:
        if placed is not None:
            await self._engine_named(placed.wanted.engine).stop(placed.instance, grace_s=self._stop_grace_s)
            self._launcher.clear(placed)

    def _row(self, slot: Slot) -> Slot:
        return self._store.slot(slot.slot) or slot

    def _to(self, slot: Slot, phase: Phase, **changes: object) -> Slot:
        return self._change(
            slot, lambda row: row.to(phase, self._clock.now(), by="device", since=self._clock.monotonic(), **changes)
        )

    def _change(self, slot: Slot, change: Callable[[Slot], Slot]) -> Slot:
        return self._store.save(change(self._row(slot)))
