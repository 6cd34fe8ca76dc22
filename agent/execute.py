"""What each step does to the device: one arm per step, and nothing else changes anything.

The row is written, synced, before each side effect, and read again before each write: the two lanes of a slot never
overwrite each other's news.
"""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from agent.choose import choose
from agent.clock import backoff
from agent.hands import Hands
from agent.keep import Keeper
from agent.plan import MAX_STARTS
from agent.slots import Placed, Slot, Upkeep, reason
from agent.steps import (
    Commit,
    Fetch,
    FinishRevert,
    Fit,
    Recover,
    Refresh,
    Remove,
    Restart,
    Revert,
    Stage,
    Start,
    StartAgain,
    Step,
    Wait,
)
from agent.verdict import Evidence, stopped
from modules.errors import (
    EdgefleetError,
    EngineBusy,
    Invalid,
    LinkLost,
    NeedsOperator,
    NoEngine,
    NoSpace,
    Refused,
    Transient,
    Unfit,
    Unproved,
)
from modules.needs import HostFacts
from modules.protocol.phases import Phase
from modules.protocol.report import Reason

_log = logging.getLogger(__name__)
_RETRY_MOST_S: Final = 300.0
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Executor:
    """Takes steps. ``untaken`` says why the gateway does not use yet what it was told last; empty: it does.

    ``lost`` says of an instance that has ended whether a client's request was with it then.
    """

    def __init__(
        self,
        *,
        hands: Hands,
        facts: Callable[[], HostFacts],
        untaken: Callable[[], Awaitable[str]],
        lost: Callable[[str], Awaitable[bool]],
        retry_s: float,
    ) -> None:
        self._hands = hands
        self._keeper = Keeper(hands, lost)
        self._facts = facts
        self._untaken = untaken
        self._retry_s = retry_s

    async def take(self, step: Step) -> None:
        """Take one step; what goes wrong is written into the row, with what follows from it."""
        slot = step.slot
        _log.info("%s: %s %s", slot.slot, type(step).__name__.lower(), slot.wanted.module)
        try:
            await self._arm(step)
        except EdgefleetError as error:
            await self._went_wrong(step, error)
        except OSError as error:
            await self._went_wrong(step, _of_the_disk(error))
        except Exception as error:  # noqa: BLE001 - a defect of ours: the slot waits, and says so
            _log.exception("%s: %s met a defect of this program, please report it", slot.slot, type(step).__name__)
            await self._went_wrong(step, error)

    async def _went_wrong(self, step: Step, error: Exception) -> None:
        if step.lane == "keep":
            self._keeper.not_kept(step.slot, error)
        elif isinstance(error, Refused | Unproved):
            try:
                await self._failed(step.slot, error)
            except (NeedsOperator, Transient) as silent:
                self._later(step.slot, silent)
        else:
            self._later(step.slot, error)

    async def _arm(self, step: Step) -> None:  # noqa: C901, PLR0912 - a list of arms, one line each
        match step:
            case Fit(slot):
                self._fit(slot)
            case Fetch(slot):
                await self._fetch(slot)
            case Stage(slot):
                await self._stage(slot)
            case Start(slot):
                await self._start(slot)
            case Wait(slot, why):
                self._hands.change(slot, lambda row: row.with_(reason=why))
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
            case Restart(slot, why, ended):
                await self._keeper.restart(slot, why, ended=ended)
            case Refresh(slot):
                await self._keeper.refresh(slot)
            case Recover(slot):
                self._keeper.recover(slot)
            case _:
                raise RuntimeError(f"no arm for {step}")

    # The way of a wanted module

    def _fit(self, slot: Slot) -> None:
        if failed := self._hands.store.failed(slot.wanted.digest):
            raise Unfit(
                f"this content failed here before: {failed.message}",
                remedy="order a waiver for its digest to try again",
            )
        facts, engine = self._facts(), slot.wanted.engine
        if engine in self._hands.engines and engine not in {one.name for one in facts.engines}:
            # It was not there at the last look at the host; that says nothing about the module.
            raise NoEngine(f"the {engine} engine does not answer", remedy="see edgefleet-agent doctor")
        manifest = self._hands.shelf.manifest(slot.wanted.digest)
        self._hands.to(slot, Phase.FITTED, chosen=choose(manifest, facts, slot.wanted))

    async def _fetch(self, slot: Slot) -> None:
        if slot.phase is Phase.FITTED:
            self._hands.to(slot, Phase.FETCHING)
        manifest = self._hands.shelf.manifest(slot.wanted.digest)
        image = self._hands.image(slot.target, manifest)
        await self._hands.supply.fetch(
            manifest, image, self._hands.engines.get(slot.wanted.engine), self._progress(slot)
        )
        self._hands.to(slot, Phase.VERIFIED)

    def _progress(self, slot: Slot) -> Callable[[float], None]:
        def tell(share: float) -> None:
            detour = self._hands.supply.detour
            why = {"reason": Reason("detour", detour)} if detour else {}
            self._hands.change(slot, lambda row: row.with_(progress=round(share, 3), **why))

        return tell

    async def _stage(self, slot: Slot) -> None:
        manifest = self._hands.shelf.manifest(slot.wanted.digest)
        try:
            await asyncio.to_thread(self._hands.supply.lay_out, slot.wanted.digest, manifest)
            if image := self._hands.image(slot.target, manifest):
                await self._hands.supply.load(image, self._hands.engine(slot.wanted.engine))
        except FileNotFoundError as error:
            _log.warning("%s: fetched again, for it went missing: %s", slot.slot, error)
            self._hands.to(slot, Phase.FETCHING)
            return
        self._hands.to(slot, Phase.STAGED)

    async def _start(self, slot: Slot) -> None:
        manifest = self._hands.shelf.manifest(slot.wanted.digest)
        placed = self._hands.launcher.place(slot.slot, slot.target, manifest)
        tries = slot.target.attempts
        if slot.phase is Phase.STARTING:
            slot = self._hands.to(slot, Phase.STAGED, attempts=tries)
        self._hands.to(slot, Phase.STARTING, attempts=tries + 1, candidate=placed)
        placed = await self._hands.launcher.start(
            placed, manifest, self._hands.engine(slot.wanted.engine), prove_it=True
        )
        self._hands.to(slot, Phase.PROBATION, candidate=placed)
        self._hands.routed()

    async def _start_again(self, slot: Slot, why: Reason) -> None:
        """Not for ever: what always ends like that is no good, whoever ends it."""
        if slot.target.stopped + 1 >= MAX_STARTS:
            await self._revert(slot, why)
            return
        _log.warning("%s: %s is started again: %s", slot.slot, slot.wanted.module, why.message)
        old = slot.candidate
        self._hands.to(slot, Phase.STAGED, candidate=None, reason=why, stopped=slot.target.stopped + 1)
        self._hands.routed()
        await self._hands.stop(old)

    async def _was_stopped(self, placed: Placed | None) -> bool:
        """Whether somebody ended it, as far as its engine knows.

        Raises:
            NoEngine, EngineBusy: the engine does not say.
        """
        if placed is None:
            return False
        found = {one.instance: one for one in await self._hands.engine(placed.wanted.engine).list()}
        return placed.instance in found and stopped(Evidence(instance=found[placed.instance]))

    async def _commit(self, slot: Slot) -> None:
        if problem := await self._untaken():
            # Done means that it serves: without the gateway it has had no traffic to prove itself by. It begins anew.
            self._hands.change(slot, lambda row: row.with_(since=self._hands.clock.monotonic()))
            raise LinkLost(f"the probation goes on: {problem}", element="gateway", remedy="see edgefleet-agent doctor")
        old = slot.current
        fresh = {"current": slot.candidate, "upkeep": Upkeep(), "previous": old}
        self._hands.to(slot, Phase.COMMITTED, candidate=None, **fresh)
        self._hands.routed()
        await self._hands.stop(old)

    # Back to what worked

    async def _failed(self, slot: Slot, error: EdgefleetError) -> None:
        """Content that cannot be accepted is rejected before it ran, and reverted once something was started."""
        row = self._hands.row(slot)
        if row.phase is Phase.STARTING and await self._was_stopped(row.candidate):
            await self._start_again(row, reason(error))
        elif row.phase in {Phase.STARTING, Phase.PROBATION}:
            await self._revert(row, reason(error))
        elif row.phase in {Phase.ACCEPTED, Phase.FETCHING, Phase.VERIFIED}:
            _log.warning("%s: rejected: %s", slot.slot, error)
            self._hands.to(row, Phase.REJECTED, reason=reason(error))
        else:
            self._later(slot, error)

    async def _revert(self, slot: Slot, why: Reason) -> None:
        _log.warning("%s: reverting %s: %s", slot.slot, slot.wanted.module, why.message)
        with self._hands.store.together():
            self._hands.store.remember_failed(slot.wanted.digest, why, self._hands.clock.now())
            row = self._hands.to(slot, Phase.REVERTING, reason=why)
        await self._finish_revert(row)

    async def _finish_revert(self, slot: Slot) -> None:
        """Traffic first, then the stop. Without a candidate it is the committed module that goes."""
        candidate, bad, previous = slot.candidate, slot.current, slot.previous
        if candidate is None and bad is not None and previous is not None and bad.wanted == slot.wanted:
            manifest = self._hands.shelf.manifest(previous.wanted.digest)
            placed = self._hands.launcher.place(slot.slot, previous, manifest)
            await self._hands.ensure(previous, manifest)
            placed = await self._hands.relaunch(placed, manifest)
            slot = self._hands.change(slot, lambda row: row.with_(current=placed, previous=None, upkeep=Upkeep()))
            self._hands.routed()
            await self._hands.stop(bad)
        else:
            self._hands.routed()
            await self._hands.stop(candidate)
        # The row's reason may by now be what held the revert up; why it was begun has been remembered.
        why = self._hands.store.failed(slot.wanted.digest) or slot.target.reason
        self._hands.to(slot, Phase.REVERTED, reason=why, candidate=None)

    async def _remove(self, slot: Slot) -> None:
        self._hands.routed()
        for placed in (slot.candidate, slot.current):
            await self._hands.stop(placed)
        self._hands.store.forget(slot.slot)

    async def restart(self, name: str) -> None:
        """Start a slot's committed module again because somebody asked.

        Raises:
            Invalid, EngineBusy: it has none, or it is being replaced; nothing was done.
            EdgefleetError, OSError: it was not started, which its row says, too.
        """
        slot = self._hands.store.slot(name)
        if slot is None or slot.current is None or slot.phase is Phase.REMOVING:
            raise Invalid("nothing is committed in this slot", element=name, remedy="name a slot that serves")
        if slot.phase in {Phase.STARTING, Phase.PROBATION, Phase.REVERTING}:
            raise EngineBusy(f"its module is being replaced: {slot.phase}", element=name, remedy="ask again later")
        await self._keeper.restart_asked(slot, slot.current)

    def resume(self, slot: Slot) -> None:
        """What has served while no agent was there: its folder is closed, if an agent died before it did that."""
        for placed in (slot.candidate, slot.current):
            if placed is not None:
                self._hands.launcher.seal(placed)

    async def stop_left_over(self, instance: str, engine: str) -> None:
        """Stop an instance that no slot names."""
        _log.info("stopping left-over instance %s", instance)
        await self._hands.end(instance, engine)

    async def clear_left_over(self, slots: Iterable[Slot], running: Iterable[str]) -> None:
        """Remove what instances left behind that neither run nor are named by a slot."""
        named = [one.instance for slot in slots for one in (slot.candidate, slot.current) if one]
        await asyncio.to_thread(self._hands.launcher.clear_others, [*named, *running])

    async def let_go_images(self) -> bool:
        """Let go of images that no module here needs any more; whether each engine that is there has done it."""
        done = True
        for engine in self._hands.engines.values():
            try:
                await self._hands.supply.let_go(engine, self._hands.store.slots)
            except NoEngine:
                pass  # a device may never have it
            except EdgefleetError as error:
                _log.debug("images are let go of later: %s", error)
                done = False
        return done

    # Small things

    def _later(self, slot: Slot, error: Exception) -> None:
        """Try again after a while: the same step, from what is there by then."""
        row = self._hands.row(slot)
        if row.phase is Phase.STARTING and isinstance(error, NeedsOperator | Transient):
            # The engine or the disk failed, or was busy, not the candidate: that start does not count against it.
            row = self._hands.to(slot, Phase.STAGED, attempts=row.target.attempts - 1, candidate=None)
        tries = row.target.attempts + (0 if row.phase in {Phase.STAGED, Phase.STARTING} else 1)
        wait = backoff(max(tries, 1), first_s=self._retry_s, most_s=_RETRY_MOST_S)
        if row.reason is None or row.reason.code != reason(error).code:
            _log.warning("%s: %s waits %.0f s: %s", slot.slot, row.phase, wait, error)
        until = self._hands.clock.monotonic() + wait
        self._hands.change(slot, lambda row: row.with_(reason=reason(error), attempts=tries, not_before=until))


def _of_the_disk(error: OSError) -> NeedsOperator:
    """A full disk, or a file that is not as the agent left it: neither is the content's fault."""
    element, said = str(error.filename or "disk"), error.strerror or str(error)
    if error.errno in _FULL:
        return NoSpace(said, element=element, remedy="free disk space")
    return NeedsOperator(said, element=element, remedy="look at this file, its rights and its disk")
