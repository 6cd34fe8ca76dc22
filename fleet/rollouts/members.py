"""The devices of a rollout as rows: which wave, which order, and the last that the device said of it.

A member is *current* while its rollout is the last that was decided for its slot on its device; only then do reports
move it and the judge looks at it.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from fleet.rollouts import phases
from fleet.rollouts.model import Evidence
from fleet.tables import devices, members, rollouts
from modules import canonical
from modules.names import DeviceId, Digest
from modules.protocol.report import Reason, SlotReport

# Bound variables of one statement.
_TOGETHER: Final = 500


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


def retire(connection: Connection, devices: Sequence[DeviceId], slot: str, *, by: int | None = None) -> None:
    """Something newer decides about this slot of these devices: rollout ``by``, or a removal."""
    for start in range(0, len(devices), _TOGETHER):
        some = members.c.device.in_(devices[start : start + _TOGETHER])
        old = some & (members.c.slot == slot) & members.c.current & (members.c.rollout != (by or 0))
        connection.execute(update(members).where(old).values(current=False, superseded_by=by))


def reported(connection: Connection, device: DeviceId, order: int, slot: SlotReport) -> None:
    """Note what a device says, if it says it of the order that carries the rollout, or of a newer one."""
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


def unorderable(connection: Connection, device: DeviceId, rollout: int, reason: Reason) -> None:
    """No order can be made for this member: it counts as a device that rejected it, which it never saw."""
    mine = (members.c.device == device) & (members.c.rollout == rollout)
    row = connection.execute(
        select(members.c.slot, members.c.digest, rollouts.c.module).join(rollouts).where(mine)
    ).one()
    said = SlotReport(slot=row.slot, phase="rejected", module=row.module, digest=row.digest, reason=reason)
    values = {"phase": said.phase, "detail": canonical.encode(said), "counter": 0}
    connection.execute(update(members).where(mine).values(**values))


def evidence(connection: Connection, rollout: int, wave: int) -> list[list[Evidence]]:
    """What the judge sees: the devices of each wave up to this one."""
    columns = (members.c.device, members.c.wave, members.c.phase, members.c.counter, members.c.current)
    chosen = select(*columns).where(members.c.rollout == rollout, members.c.wave <= wave)
    waves: list[list[Evidence]] = [[] for _ in range(wave)]
    for row in connection.execute(chosen.order_by(members.c.device)):
        outcome = phases.outcome(row.phase)
        # What failed counts, whatever has been done about it since.
        superseded = not row.current and outcome is not phases.Outcome.FAILED
        one = Evidence(row.device, outcome, row.phase, row.counter is not None, superseded)
        waves[row.wave - 1].append(one)
    return waves


def view(connection: Connection, rollout: int) -> list[dict[str, Any]]:
    """The devices of a rollout as the API shows them."""
    shown = select(members, devices.c.online, devices.c.last_seen).join(devices)
    rows = connection.execute(shown.where(members.c.rollout == rollout).order_by(members.c.device))
    return [_view(row) for row in rows]


def _view(row: Any) -> dict[str, Any]:
    said = msgspec.json.decode(row.detail, type=SlotReport) if row.detail else None
    told = msgspec.to_builtins(said) if said else {"reason": None, "serving": None, "times": [], "progress": None}
    shown = {name: told[name] for name in ("reason", "serving", "times", "progress")}
    phase = row.phase
    if not row.current and row.phase != phases.WITHDRAWN and phases.outcome(row.phase) is not phases.Outcome.FAILED:
        phase = "superseded"
        newer = f"rollout {row.superseded_by} decides about it now" if row.superseded_by else "it was emptied"
        shown["reason"] = {"code": "superseded", "message": f"the slot does not belong to this rollout: {newer}"}
    elif row.current and row.phase == phases.ORDERED and not row.online:
        shown["reason"] = {
            "code": "offline",
            "message": f"the device is offline ({_seen(row.last_seen)}); its order waits at the broker",
        }
    return {"device": row.device, "wave": row.wave, "phase": phase} | shown


def _seen(at: float | None) -> str:
    return "never seen" if at is None else f"last seen {dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M} UTC"
