"""The devices of a rollout as rows: which wave, which order, and the last that the device said of it.

A member is *current* while its rollout is the last that was decided for its slot on its device; only then do reports
move it and the judge looks at it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select, update

from fleet.rollouts import phases
from fleet.rollouts.model import Evidence
from fleet.tables import members, rollouts
from modules import canonical
from modules.names import DeviceId, Digest
from modules.protocol.report import Reason, SlotReport


def add(connection: Connection, rollout: int, slot: str, digest: Digest, waves: Sequence[Sequence[DeviceId]]) -> None:
    """Enter every device of every wave."""
    rows = [
        {
            "rollout": rollout,
            "device": device,
            "slot": slot,
            "digest": digest,
            "wave": number,
            "current": True,
            "phase": phases.PLANNED,
        }
        for number, wave in enumerate(waves, start=1)
        for device in wave
    ]
    connection.execute(insert(members), rows)


def retire(connection: Connection, device: DeviceId, slot: str, *, but: int | None = None) -> None:
    """Something newer decides about this slot; rollout ``but`` is what does."""
    old = (members.c.device == device) & (members.c.slot == slot) & members.c.current
    connection.execute(update(members).where(old, members.c.rollout != (but or 0)).values(current=False))


def reported(connection: Connection, device: DeviceId, order: int, slot: SlotReport) -> None:
    """Note what a device says, if it says it of the order that carries the rollout, or of a newer one.

    Raises:
        Invalid: a phase that does not exist.
    """
    phases.outcome(slot.phase)
    mine = (members.c.device == device) & (members.c.slot == slot.slot) & (members.c.digest == slot.digest)
    heard = members.c.current & (members.c.counter <= order)
    connection.execute(update(members).where(mine, heard).values(phase=slot.phase, detail=canonical.encode(slot)))


def refused(connection: Connection, device: DeviceId, counter: int, reason: Reason) -> None:
    """A device did not accept the order that brought these members their module."""
    mine = (members.c.device == device) & (members.c.counter == counter) & members.c.current
    waiting = select(members.c.rollout, members.c.slot, members.c.digest, rollouts.c.module).join(rollouts)
    for row in connection.execute(waiting.where(mine, members.c.phase == phases.ORDERED)).all():
        said = SlotReport(slot=row.slot, phase="rejected", module=row.module, digest=row.digest, reason=reason)
        this = mine & (members.c.rollout == row.rollout)
        connection.execute(update(members).where(this).values(phase=said.phase, detail=canonical.encode(said)))


def evidence(connection: Connection, rollout: int, wave: int) -> list[Evidence]:
    """What the judge sees: the current devices of the waves up to this one."""
    chosen = select(members).where(members.c.rollout == rollout, members.c.wave <= wave, members.c.current)
    return [
        Evidence(row.device, phases.outcome(row.phase), row.phase, row.counter is not None)
        for row in connection.execute(chosen.order_by(members.c.device))
    ]


def view(connection: Connection, rollout: int) -> list[dict[str, Any]]:
    """The devices of a rollout as the API shows them."""
    rows = connection.execute(select(members).where(members.c.rollout == rollout).order_by(members.c.device))
    return [_view(row) for row in rows]


def _view(row: Any) -> dict[str, Any]:
    said = msgspec.json.decode(row.detail, type=SlotReport) if row.detail else None
    told = msgspec.to_builtins(said) if said else {"reason": None, "serving": None, "times": [], "progress": None}
    shown = {name: told[name] for name in ("reason", "serving", "times", "progress")}
    phase = row.phase if row.current or phases.outcome(row.phase) is phases.Outcome.FAILED else "superseded"
    return {"device": row.device, "wave": row.wave, "phase": phase} | shown
