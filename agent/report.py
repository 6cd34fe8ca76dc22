"""What the device says of itself: rows to a report, and when to say it."""

from typing import Final

import msgspec

from agent.slots import Placed, Slot
from modules import canonical
from modules.clipping import clipped
from modules.names import DeviceId
from modules.protocol.batch import JobReport
from modules.protocol.phases import Phase
from modules.protocol.report import LIMIT, Health, Reason, Refusal, Report, Running, SlotReport

# What its number and time may add to a draft, which has none yet.
_NUMBERS: Final = 64
# How many characters of a reason, phases' times of a slot, and refusals a report has, as long as it is too large.
_SHORTER: Final = ((2000, 64, 20), (500, 16, 20), (100, 4, 5), (0, 1, 1))


def build(
    slots: tuple[Slot, ...],
    refusals: tuple[Refusal, ...],
    *,
    device: DeviceId,
    number: int,
    now: float,
    order: int,
    agent: str,
    epoch: str = "",
    jobs: tuple[JobReport, ...] = (),
) -> Report:
    """The complete state of the device; a newer report replaces an older one.

    It is always one that the server reads, whatever modules and engines said: texts are cut, the longer ones first
    where the whole would be too large.
    """
    whole = Report(
        device=device,
        number=number,
        issued=now,
        order=order,
        agent=agent,
        slots=tuple(_slot(slot) for slot in slots),
        refusals=refusals,
        epoch=epoch,
        jobs=jobs,
    )
    for reason, times, refused in _SHORTER:
        report = clipped(_shortened(whole, reason, times, refused))
        if len(canonical.encode(report)) <= LIMIT - _NUMBERS:
            break
    return report


def _shortened(whole: Report, reason: int, times: int, refused: int) -> Report:
    def cut(why: Reason) -> Reason:
        return Reason(why.code, why.message[:reason])

    slots = tuple(
        msgspec.structs.replace(slot, reason=slot.reason and cut(slot.reason), times=slot.times[-times:])
        for slot in whole.slots
    )
    refusals = tuple(msgspec.structs.replace(one, reason=cut(one.reason)) for one in whole.refusals[-refused:])
    jobs = tuple(msgspec.structs.replace(one, why=one.why[:reason]) for one in whole.jobs)
    return msgspec.structs.replace(whole, slots=slots, refusals=refusals, jobs=jobs)


def _health(slot: Slot) -> Health | None:
    """The committed module's own, whatever became of the wanted one."""
    if slot.current is None or slot.phase is Phase.REMOVING:
        return None
    return Health(state=slot.upkeep.state, restarts=slot.upkeep.restarts, reason=slot.upkeep.trouble)


def _slot(slot: Slot) -> SlotReport:
    serving = slot.serving
    if slot.phase is Phase.REMOVING or (serving is slot.current and slot.upkeep.trouble):
        serving = None
    return SlotReport(
        slot=slot.slot,
        phase=str(slot.standing),
        module=slot.wanted.module,
        digest=slot.wanted.digest,
        attempts=max(slot.target.attempts, slot.upkeep.restarts),
        reason=slot.reason,
        serving=_running(serving) if serving else None,
        progress=slot.target.progress,
        times=slot.target.times,
        current=_health(slot),
        measured=slot.target.watched.measured,
        before=slot.target.watched.before,
    )


def _running(placed: Placed) -> Running:
    return Running(
        module=placed.wanted.module,
        digest=placed.wanted.digest,
        provider=placed.provider,
        engine=placed.wanted.engine,
        proved=placed.proved,
    )
