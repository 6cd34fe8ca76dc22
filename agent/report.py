"""What the device says of itself: rows to a report, and when to say it."""

from agent.slots import Placed, Slot
from modules.names import DeviceId
from modules.protocol.phases import Phase
from modules.protocol.report import Refusal, Report, Running, SlotReport


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
) -> Report:
    """The complete state of the device; a newer report replaces an older one."""
    return Report(
        device=device,
        number=number,
        issued=now,
        order=order,
        agent=agent,
        slots=tuple(_slot(slot) for slot in slots),
        refusals=refusals,
        epoch=epoch,
    )


def _slot(slot: Slot) -> SlotReport:
    serving = None if slot.phase is Phase.REMOVING else slot.serving
    return SlotReport(
        slot=slot.slot,
        phase=str(slot.phase),
        module=slot.wanted.module,
        digest=slot.wanted.digest,
        attempts=max(slot.attempts, slot.restarts),
        reason=slot.reason,
        serving=_running(serving) if serving else None,
        progress=slot.progress,
        times=slot.times,
    )


def _running(placed: Placed) -> Running:
    return Running(
        module=placed.wanted.module,
        digest=placed.wanted.digest,
        provider=placed.provider,
        engine=placed.wanted.engine,
        proved=placed.proved,
    )
