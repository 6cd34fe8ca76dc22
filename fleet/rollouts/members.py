"""The devices of a rollout as rows: which wave, which order, and the last that the device said of it.

A member is *current* while its rollout is the last that was decided for its slot on its device; only then do reports
move it and the judge looks at it.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from fleet.rollouts import phases
from fleet.rollouts.model import EXAMPLES, Evidence
from fleet.tables import devices, members, rollouts
from modules import canonical
from modules.names import DeviceId, Digest
from modules.protocol.report import Reason, SlotReport

# Bound variables of one statement.
_TOGETHER: Final = 500
_HEALTH: Final = 32


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
    health = slot.current.state if slot.current else ""
    values = {"phase": slot.phase, "health": health[:_HEALTH], "detail": canonical.encode(slot)}
    connection.execute(update(members).where(mine, heard).values(**values))


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


def failed() -> ColumnElement[bool]:
    """The members that failed, as :func:`fleet.rollouts.phases.outcome` says it of their phase and health."""
    by_phase = [name for name, means in phases.OUTCOMES.items() if means is phases.Outcome.FAILED]
    by_health = [name for name, means in phases.HEALTHS.items() if means is phases.Outcome.FAILED]
    committed = [name for name, means in phases.OUTCOMES.items() if means is phases.Outcome.SUCCEEDED]
    return or_(members.c.phase.in_(by_phase), and_(members.c.phase.in_(committed), members.c.health.in_(by_health)))


def evidence(connection: Connection, rollout: int, wave: int) -> list[Evidence]:
    """What the judge sees: the devices of each wave up to this one, counted by the database.

    A device that failed counts whatever has been decided about its slot since.
    """
    opened = (members.c.rollout == rollout) & (members.c.wave <= wave)
    kinds = (members.c.wave, members.c.phase, members.c.health, members.c.counter.is_not(None).label("ordered"))
    chosen = select(*kinds, func.count().label("devices")).where(opened, or_(members.c.current, failed()))
    found = [Evidence() for _ in range(wave)]
    for row in connection.execute(chosen.group_by(*kinds)):
        before, means = found[row.wave - 1], phases.outcome(row.phase, row.health)
        found[row.wave - 1] = Evidence(
            devices=before.devices + row.devices,
            committed=before.committed + row.devices * (means is phases.Outcome.SUCCEEDED),
            failed=before.failed + row.devices * (means is phases.Outcome.FAILED),
            unordered=before.unordered + row.devices * (not row.ordered),
        )
    return [
        msgspec.structs.replace(one, examples=_examples(connection, rollout, number)) if one.failed else one
        for number, one in enumerate(found, start=1)
    ]


def _examples(connection: Connection, rollout: int, wave: int) -> tuple[str, ...]:
    mine = (members.c.rollout == rollout) & (members.c.wave == wave)
    chosen = select(members.c.device, members.c.phase, members.c.health).where(mine, failed())
    rows = connection.execute(chosen.order_by(members.c.device).limit(EXAMPLES))
    return tuple(f"{row.device} {_failure(row.phase, row.health)}" for row in rows)


def _failure(phase: str, health: str) -> str:
    """How a member failed: a module that was committed may have become unfit since."""
    return phase if phases.outcome(phase) is phases.Outcome.FAILED else f"{phase}, now {health}"


def view(connection: Connection, rollout: int) -> list[dict[str, Any]]:
    """The devices of a rollout as the API shows them."""
    shown = select(members, devices.c.online, devices.c.last_seen).join(devices)
    rows = connection.execute(shown.where(members.c.rollout == rollout).order_by(members.c.device))
    return [_view(row) for row in rows]


def _view(row: Any) -> dict[str, Any]:
    said = msgspec.json.decode(row.detail, type=SlotReport) if row.detail else None
    told = msgspec.to_builtins(said) if said else {"times": []}
    shown = {name: told.get(name) for name in ("reason", "serving", "current", "times", "progress")}
    phase = row.phase
    failed = phases.outcome(row.phase, row.health) is phases.Outcome.FAILED
    if not row.current and row.phase != phases.WITHDRAWN and not failed:
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
