"""The decision: what was ordered, what is remembered and what is seen, in; the steps to take now, out. Pure.

One step per slot and lane, never two; the loop takes them, looks again, and asks again. No plan is remembered between
two passes, so a crash between any two steps loses nothing.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from agent.engines.contract import BATCH
from agent.maintenance import why_closed
from agent.slots import MAX_RESTARTS, Slot
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
from agent.verdict import Evidence, broken, stopped
from modules.protocol.phases import Phase
from modules.protocol.report import Reason

# A candidate that took the agent down with it, or that the engine could not start, is not tried for ever.
MAX_STARTS: Final = 3
# A restarted module that answers this long has recovered; its count of restarts starts anew.
STEADY_S: Final = 10.0


class Decision(msgspec.Struct, frozen=True):
    """Steps to take now, and when to look again even if nothing happens (seconds of the boot)."""

    steps: tuple[Step, ...]
    look_again: float


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the last look found, by instance name; instances that no slot names are left-overs."""

    evidence: Mapping[str, Evidence]

    def without(self, instances: Collection[str]) -> "Seen":
        """The same, with nothing said of these instances."""
        return Seen(evidence={name: one for name, one in self.evidence.items() if name not in instances})


def plan(
    slots: tuple[Slot, ...], seen: Seen, *, now: float, poll_s: float, local: dt.datetime | None = None
) -> Decision:
    """Decide for every slot.

    ``now`` is in seconds of the boot, ``local`` the device's local time: None where its clock is not set.
    """
    steps: list[Step] = []
    look_again = now + poll_s
    for slot in slots:
        # A probation is judged all the while; only its end may have to wait.
        if slot.target.not_before > now and slot.phase is not Phase.PROBATION:
            look_again = min(look_again, slot.target.not_before)
        else:
            step, wake = _work(slot, seen, now, local)
            steps += [step] if step else []
            look_again = min(look_again, wake) if wake else look_again
        kept = _keep(slot, seen, now)
        steps += [kept] if kept else []
        if slot.upkeep.restart_after > now:
            look_again = min(look_again, slot.upkeep.restart_after)
    return Decision(tuple(steps), look_again)


def _work(slot: Slot, seen: Seen, now: float, local: dt.datetime | None) -> tuple[Step | None, float | None]:
    """The next step of the wanted module, and when time alone will bring one."""
    match slot.phase:
        case Phase.ACCEPTED:
            return Fit(slot), None
        case Phase.FITTED | Phase.FETCHING:
            return Fetch(slot), None
        case Phase.VERIFIED:
            return Stage(slot), None
        case Phase.STAGED | Phase.STARTING:
            if slot.target.attempts >= MAX_STARTS:
                last = slot.reason.message if slot.reason else "the agent ended while it was starting"
                return Revert(slot, Reason("not-ready", f"given up after {slot.target.attempts} starts: {last}")), None
            return _start(slot, now, local)
        case Phase.PROBATION:
            return _probation(slot, seen, now)
        case Phase.REVERTING:
            return FinishRevert(slot), None
        case Phase.REMOVING:
            return Remove(slot), None
        case Phase.COMMITTED | Phase.DEGRADED | Phase.REVERTED | Phase.REJECTED:
            return None, None


def _start(slot: Slot, now: float, local: dt.datetime | None) -> tuple[Step | None, float | None]:
    """Start it if one of its windows is open; else say once what it waits for."""
    closed = why_closed(slot.target.windows, local)
    if closed is None:
        return Start(slot), None
    why, in_s = closed
    return (None if slot.target.reason == why else Wait(slot, why)), now + in_s


def _probation(slot: Slot, seen: Seen, now: float) -> tuple[Step | None, float | None]:
    if slot.candidate is None:
        return Revert(slot, Reason("bug", "a probation without a candidate")), None
    evidence = seen.evidence.get(slot.candidate.instance)
    if evidence is None:
        return None, None  # not looked at yet
    if why := broken(evidence):
        return (StartAgain(slot, why) if stopped(evidence) else Revert(slot, why)), None
    ends = max(slot.target.since + slot.candidate.probation_s, slot.target.not_before)
    if now < ends:
        return None, ends
    return (Commit(slot) if evidence.answers else None), None


def _keep(slot: Slot, seen: Seen, now: float) -> Step | None:
    """Keep the committed module alive, whatever the wanted one does meanwhile."""
    if slot.current is None or slot.phase is Phase.REMOVING:
        return None
    if slot.phase is Phase.REVERTING and slot.candidate is None:
        return None  # it is the committed module that goes
    evidence = seen.evidence.get(slot.current.instance)
    if evidence is None:
        return None
    why, trouble = broken(evidence), slot.upkeep.trouble
    if why is None:
        if slot.current.ungiven and evidence.answers and slot.upkeep.restart_after <= now:
            return Refresh(slot)
        steady = evidence.answers and evidence.failed_probes == 0 and now - slot.current.since >= STEADY_S
        return Recover(slot) if steady and slot.upkeep.state != "up" else None
    if slot.upkeep.restart_after > now:
        return None
    # Of one that was stopped because it did not become ready, its last start says more than that it is gone.
    why = trouble if trouble and evidence.instance is None else why
    failed = slot.upkeep.restarts - slot.upkeep.excused
    if slot.phase is Phase.COMMITTED and failed >= MAX_RESTARTS and slot.previous is not None:
        return Revert(slot, Reason(why.code, f"failed {failed} restarts after it was committed: {why.message}"))
    ended = evidence.instance is None or evidence.instance.state != "running"
    return Restart(slot, why, ended=ended)


def left_over(slots: tuple[Slot, ...], running: Iterable[str]) -> list[str]:
    """Instances that no slot names: of a superseded candidate, or of a crash between two writes.

    Batch jobs belong to no slot, and are looked after in ``agent/batch``.
    """
    named = {one.instance for slot in slots for one in (slot.candidate, slot.current) if one}
    return sorted(one for one in set(running) - named if not one.startswith(BATCH))
