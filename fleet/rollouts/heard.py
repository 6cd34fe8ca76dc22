"""What a device's report means for the rollouts that it is in."""

import functools
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, or_, select

from fleet.rollouts import gates, members, phases
from fleet.rollouts.model import Policy
from fleet.rollouts.phases import Standing
from fleet.tables import members as rows
from fleet.tables import rollouts, slots
from modules import canonical
from modules.names import DeviceId
from modules.protocol.order import SlotOrder
from modules.protocol.report import Reason, Report, SlotReport

_HEALTH: Final = 32
_NOTE: Final = 500


def report(connection: Connection, now: float, device: DeviceId, said: Report) -> None:
    """Note what a device says of each slot, if it says it of the order that carries the rollout, or of a newer one."""
    told = {slot.slot: slot for slot in said.slots}
    waiting = (
        select(rows, rollouts.c.deadline_s, rollouts.c.policy)
        .join(rollouts)
        .where(rows.c.device == device, or_(rows.c.current, rows.c.standing == Standing.RETURNING))
    )
    for row in connection.execute(waiting).all():
        if row.counter is None or row.counter > said.order:
            continue  # it has not read this order yet
        slot = told.get(row.slot)
        if row.standing == Standing.RETURNING:
            _returning(connection, row, slot)
        elif slot is not None and slot.digest == row.digest:
            _on_its_way(connection, now, row, slot)


def refusal(connection: Connection, device: DeviceId, counter: int, reason: Reason) -> None:
    """A device did not accept the order that brought these members their module."""
    mine = (rows.c.device == device) & (rows.c.counter == counter) & rows.c.current
    members.fail(connection, mine & (rows.c.phase == phases.ORDERED), reason)


def _on_its_way(connection: Connection, now: float, row: Any, slot: SlotReport) -> None:
    health = (slot.current.state if slot.current else "")[:_HEALTH]
    detail = canonical.encode(slot)
    if (row.phase, row.health, row.detail) == (slot.phase, health, detail):
        return
    values: dict[str, Any] = {"phase": slot.phase, "health": health, "detail": detail}
    means, note = _means(row.policy, slot, health)
    mine = members.of(row.device, row.rollout)
    if row.standing not in phases.REPORTED or (row.standing, row.note) == (means, note):
        connection.execute(rows.update().where(mine).values(**values))
        return
    due = row.due
    if means is not Standing.WORKING:
        due = None
    elif due is None:
        due = now + row.deadline_s
    members.change(connection, mine, **values, standing=means, due=due, note=note)


def _means(policy: bytes, slot: SlotReport, health: str) -> tuple[Standing, str]:
    """Where the device stands by its own words and the gates of the rollout, and why, where a gate decides."""
    means = phases.standing(slot.phase, health)
    if means is not Standing.SUCCEEDED:
        return means, ""
    outcome = gates.look(_gates(policy), slot)
    if outcome.failed:
        return Standing.FAILED, outcome.failed[:_NOTE]
    return (Standing.WORKING, outcome.waits[:_NOTE]) if outcome.waits else (means, "")


@functools.lru_cache(maxsize=64)
def _gates(policy: bytes) -> tuple[gates.Gate, ...]:
    return msgspec.json.decode(policy, type=Policy).gates


def _returning(connection: Connection, row: Any, slot: SlotReport | None) -> None:
    """What was taken back is over when the device runs again what its order says, or nothing where it says nothing."""
    mine = (slots.c.device == row.device) & (slots.c.slot == row.slot)
    document = connection.execute(select(slots.c.document).where(mine)).scalar_one_or_none()
    if document is None:
        back = slot is None
    else:
        wanted = msgspec.json.decode(document, type=SlotOrder).digest
        health = slot.current.state if slot is not None and slot.current else ""
        back = slot is not None and slot.digest == wanted and phases.standing(slot.phase, health) is Standing.SUCCEEDED
    if back:
        members.change(connection, members.of(row.device, row.rollout), standing=Standing.RETURNED, due=None)
