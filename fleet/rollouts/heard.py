"""What a device's report means for the rollouts that it is in."""

import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, bindparam, or_, select

from fleet.fallbacks.answering import answered_elsewhere
from fleet.rollouts import gates, members, phases
from fleet.rollouts.model import Policy
from fleet.rollouts.phases import Standing
from fleet.tables import members as rows
from fleet.tables import rollouts, slots
from modules import canonical
from modules.errors import Unfit
from modules.names import DeviceId
from modules.protocol.order import SlotOrder
from modules.protocol.phases import Phase
from modules.protocol.report import Reason, Report, SlotReport
from modules.words import printable

_NOTE: Final = 500
# The most of a phase or health in its column; longer ones are of no agent that we know.
_WORD: Final = 32
_CHANGED: Final = ("phase", "health", "detail", "standing", "due", "note")
_WRITE: Final = (
    rows.update()
    .where(rows.c.rollout == bindparam("of_rollout"), rows.c.device == bindparam("of_device"))
    .values({name: bindparam(name) for name in _CHANGED})
)


class Moved:
    """The members that reports of these devices may move, read at once, and what changes of them, written at once."""

    def __init__(self, connection: Connection, now: float, devices: Sequence[DeviceId]) -> None:
        self.connection, self.now = connection, now
        self._every: list[dict[str, Any]] = []
        self._touched: set[tuple[int, str | None]] = set()
        self._waiting: dict[DeviceId, list[Any]] = {}
        chosen = select(rows, rollouts.c.deadline_s, rollouts.c.policy, rollouts.c.document).join(rollouts)
        moving = or_(rows.c.current, rows.c.standing == Standing.RETURNING)
        for row in connection.execute(chosen.where(rows.c.device.in_(devices), moving)):
            self._waiting.setdefault(row.device, []).append(row)

    def waiting(self, device: DeviceId) -> Sequence[Any]:
        return self._waiting.get(device, ())

    def change(self, row: Any, *, moves: bool, **values: Any) -> None:
        """``moves``: where the member stands changes, so that the engine has to look."""
        whole = {name: getattr(row, name) for name in _CHANGED} | values
        self._every.append(whole | {"of_rollout": row.rollout, "of_device": row.device})
        if moves:
            self._touched.add((row.rollout, row.place))

    def wanted(self, row: Any) -> bytes | None:
        """The document of the member's slot now."""
        mine = (slots.c.device == row.device) & (slots.c.slot == row.slot)
        return self.connection.execute(select(slots.c.document).where(mine)).scalar_one_or_none()

    def write(self) -> None:
        if self._every:
            self.connection.execute(_WRITE, self._every)
        members.look(self.connection, self._touched)


def report(moved: Moved, device: DeviceId, said: Report) -> None:
    """Note what a device says of each slot, if it says it of the order that carries the rollout, or of a newer one."""
    told = {slot.slot: slot for slot in said.slots}
    for row in moved.waiting(device):
        if row.counter is None or row.counter > said.order:
            continue  # it has not read this order yet
        slot = told.get(row.slot)
        if row.standing == Standing.RETURNING:
            _returning(moved, row, slot)
        elif slot is not None and slot.digest == row.digest:
            _on_its_way(moved, device, row, slot)


def refusal(connection: Connection, device: DeviceId, counter: int, reason: Reason) -> None:
    """A device did not accept the order that brought these members their module."""
    mine = (rows.c.device == device) & (rows.c.counter == counter) & rows.c.current
    members.fail(connection, mine & (rows.c.phase == phases.ORDERED), reason)


def _on_its_way(moved: Moved, device: DeviceId, row: Any, slot: SlotReport) -> None:
    phase = printable(slot.phase, _WORD)
    health = printable(slot.current.state if slot.current else "", _WORD)
    detail = canonical.encode(slot)
    if (row.phase, row.health, row.detail) == (phase, health, detail):
        return
    values: dict[str, Any] = {"phase": phase, "health": health, "detail": detail}
    found, note = means(_gates(row.policy), slot, phase, health)
    unfit = phase == Phase.REJECTED and slot.reason is not None and slot.reason.code == Unfit.code
    if unfit and answered_elsewhere(moved.connection, device, row.slot):
        found, note = Standing.SUCCEEDED, "it does not fit there: its fallback answers"
    if row.standing not in phases.REPORTED or (row.standing, row.note) == (found, note):
        moved.change(row, moves=False, **values)
        return
    due = row.due
    if found is not Standing.WORKING:
        due = None
    elif due is None:
        due = moved.now + row.deadline_s
    moved.change(row, moves=True, **values, standing=found, due=due, note=note)


def means(asked: Sequence[gates.Gate], slot: SlotReport, phase: str, health: str) -> tuple[Standing, str]:
    """Where a member stands by its own words and these gates, and why, where a gate decides."""
    found = phases.standing(phase, health)
    if phase != Phase.COMMITTED or found is Standing.FAILED:
        return found, ""
    outcome = gates.look(asked, slot)
    if outcome.failed:  # also of a module that is just started again: only then has it restarts to tell
        return Standing.FAILED, printable(outcome.failed, _NOTE)
    if found is not Standing.SUCCEEDED:
        return found, ""
    return (Standing.WORKING, printable(outcome.waits, _NOTE)) if outcome.waits else (found, "")


@functools.lru_cache(maxsize=64)
def _gates(policy: bytes) -> tuple[gates.Gate, ...]:
    return msgspec.json.decode(policy, type=Policy).gates


def _returning(moved: Moved, row: Any, slot: SlotReport | None) -> None:
    """What was taken back is over when the device runs again what its order says, or nothing where it says nothing."""
    document = moved.wanted(row)
    if document is None:
        back = slot is None
    else:
        wanted = msgspec.json.decode(document, type=SlotOrder).digest
        health = slot.current.state if slot is not None and slot.current else ""
        back = slot is not None and slot.digest == wanted and phases.standing(slot.phase, health) is Standing.SUCCEEDED
    if back:
        moved.change(row, moves=True, standing=Standing.RETURNED, due=None)
