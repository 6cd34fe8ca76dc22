"""The lane that keeps a slot's committed module up, whatever the ordered one does meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from agent.clock import backoff
from agent.hands import Hands
from agent.slots import Placed, Slot, Upkeep, reason
from modules.errors import EdgefleetError, EngineBusy, NeedsOperator, NoEngine, NoSpace
from modules.protocol.report import Reason

_log = logging.getLogger(__name__)
# Until secrets are given again that could not be written, or not be written down, on a full disk.
_GIVEN_AGAIN_S: Final = 5.0
# What ends or falls silent so soon after the signal does so because of it.
_DIES_OF_SIGNAL_S: Final = 30.0
# The restart at which its files are read: before so many are enough to give it up, and not at each.
_READ_AT: Final = 2


class Keeper:
    """Starts a committed module again, and says how it is."""

    def __init__(self, hands: Hands, lost: Callable[[str], Awaitable[bool]]) -> None:
        self._hands = hands
        self._lost = lost
        # Restarts that a full disk kept from being counted: how many, and until when the next one waits.
        self._unwritten: dict[str, tuple[int, float]] = {}

    async def restart_asked(self, slot: Slot, old: Placed) -> None:
        """Start it again because somebody asked: no evidence against it, so nothing is counted.

        What it needs is made sure of before it is stopped. What goes wrong after that is written down like any end of
        it, and the loop goes on starting it.
        """
        _log.info("%s: restarting %s, as was asked", slot.slot, old.wanted.module)
        manifest = self._hands.shelf.manifest(old.wanted.digest)
        await self._hands.ensure(old, manifest)
        placed = self._hands.launcher.place(slot.slot, old, manifest)
        await asyncio.to_thread(self._hands.launcher.give, placed, manifest)
        if not self._succeeds(slot, old, placed):
            await asyncio.to_thread(self._hands.launcher.clear, placed)
            return
        try:
            await self._hands.stop(old)
            started = await self._hands.relaunch(placed, manifest)
        except (EdgefleetError, OSError) as error:
            self.not_kept(slot, error)
            raise
        if self._succeeds(slot, placed, started, trouble=None):
            self._hands.routed()

    async def restart(self, slot: Slot, why: Reason, *, ended: bool) -> None:
        old = slot.current
        if old is None or self._held_back(slot):
            return
        signalled = self._is_signalled(old)
        asked = ended and not signalled and await self._lost(old.instance)
        if not self._is_current(slot, old):
            return
        if excused := asked or signalled:
            cause = "with a client's request in its hands" if asked else "after the signal that its secrets are new"
            why = Reason(why.code, f"{why.message}, {cause}: not held against the version")
        _log.warning("%s: restarting %s: %s", slot.slot, old.wanted.module, why.message)
        try:
            await self._restart_anew(slot, old, why, excused=excused)
        except NoSpace as full:
            await self._restart_in_place(slot, old, full)

    async def refresh(self, slot: Slot) -> None:
        """Give the committed module its secrets' new versions: as files, by a signal or by a restart, as it declares.

        One that cannot be opened changes nothing: the module goes on with what it has. Where nothing can be written, or
        the engine is busy, it serves on, too, and they are given again soon: that is no trouble of the module's.
        """
        try:
            await self._refresh(slot)
        except (OSError, NoSpace, EngineBusy, NoEngine) as error:
            _log.warning("%s: not all of its new secrets are given yet: %s", slot.slot, error)
            await self._hands.clock.sleep(_GIVEN_AGAIN_S)

    async def _refresh(self, slot: Slot) -> None:
        old = slot.current
        if old is None or not self._is_current(slot, old):
            return
        manifest = self._hands.shelf.manifest(old.wanted.digest)
        changed = {name: manifest.declared[name] for name in old.ungiven if name in manifest.declared}
        try:
            given = await asyncio.to_thread(self._hands.launcher.give, old, manifest)
        except NeedsOperator as error:
            _log.warning("%s: %s keeps the secrets that it has: %s", slot.slot, old.wanted.module, error)
            given = {name: one.version for name, one in old.secrets.items()}
            changed = {}
        takes = {one.reload for one in changed.values()}
        if "restart" in takes:
            why = Reason("secret-changed", f"new: {', '.join(sorted(changed))}")
            await self._restart_anew(slot, old, why, excused=True)
            return
        if "signal" in takes:
            # Written down first: should it die of the signal, whoever looks after it then knows of that.
            old = msgspec.structs.replace(old, signalled=self._hands.clock.monotonic())
            if not self._succeeds(slot, old, old):
                return
            await self._hands.engine(old.wanted.engine).hang_up(old.instance)
        self._succeeds(slot, old, msgspec.structs.replace(old, given=given))

    def _is_signalled(self, placed: Placed) -> bool:
        """Whether it was signalled a moment ago; an earlier boot's seconds say nothing."""
        passed = self._hands.clock.monotonic() - placed.signalled if placed.signalled is not None else -1.0
        return 0.0 <= passed <= _DIES_OF_SIGNAL_S

    def _held_back(self, slot: Slot) -> bool:
        return self._unwritten.get(slot.slot, (0, 0.0))[1] > self._hands.clock.monotonic()

    async def _restart_in_place(self, slot: Slot, old: Placed, full: NoSpace) -> None:
        """Nothing can be written, so the module is started again under the name and at the socket that it had."""
        tries = self._unwritten.get(slot.slot, (0, 0.0))[0] + 1
        self._unwritten[slot.slot] = (tries, self._hands.clock.monotonic() + backoff(tries))
        if tries == 1:
            _log.warning("%s: the restart cannot be written down, and is done all the same: %s", slot.slot, full)
        await self._hands.stop(old)
        manifest = self._hands.shelf.manifest(old.wanted.digest)
        await self._hands.ensure(old, manifest)
        await self._hands.relaunch(old, manifest)

    async def _restart_anew(self, slot: Slot, old: Placed, why: Reason, *, excused: bool) -> None:
        now, tries = self._hands.clock.monotonic(), slot.upkeep.restarts + 1
        counts = {"restarts": tries, "excused": slot.upkeep.excused + excused, "restart_after": now + backoff(tries)}
        self._hands.change(slot, lambda row: row.with_(**counts, trouble=why))
        self._unwritten.pop(slot.slot, None)
        manifest = self._hands.shelf.manifest(old.wanted.digest)
        placed = self._hands.launcher.place(slot.slot, old, manifest)
        if not self._succeeds(slot, old, placed):
            return
        await self._hands.stop(old)
        # What does not stay up may do so for its files: nothing is held against it that the disk has done.
        await self._hands.ensure(old, manifest, read=tries == _READ_AT)
        started = await self._hands.relaunch(placed, manifest)
        if self._succeeds(slot, placed, started, trouble=None):
            self._hands.routed()

    def _succeeds(self, slot: Slot, before: Placed, after: Placed, **changes: object) -> bool:
        """Put ``after`` in the place of ``before``, unless a commit or a revert has taken that place meanwhile."""
        current = self._hands.row(slot).current
        if current is None or current.instance != before.instance:
            return False
        # An order may have routed it elsewhere meanwhile, or brought other secrets.
        placed = msgspec.structs.replace(after, routing=current.routing, secrets=current.secrets)
        self._hands.change(slot, lambda row: row.with_(current=placed, **changes))
        return True

    def _is_current(self, slot: Slot, placed: Placed) -> bool:
        current = self._hands.row(slot).current
        return current is not None and current.instance == placed.instance

    def not_kept(self, slot: Slot, error: Exception) -> None:
        """The committed module was not brought up; the wanted one's own way is none of its business."""
        _log.warning("%s: restart failed: %s", slot.slot, error)
        row = self._hands.row(slot)
        if row.current and slot.current and row.current.wanted == slot.current.wanted:
            self._hands.store.save(row.with_(trouble=reason(error)))

    def recover(self, slot: Slot) -> None:
        self._hands.change(slot, lambda row: row.with_(upkeep=Upkeep()))
