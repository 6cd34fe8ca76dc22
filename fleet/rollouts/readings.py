"""What the gates of a rollout see, wave by wave: how many devices meet each, and which one is the furthest from it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, case, select

from fleet.people.scope import EVERYTHING, Scope
from fleet.rollouts import control
from fleet.rollouts.gates import Gate, Reading, limit, read
from fleet.rollouts.model import Policy
from fleet.rollouts.phases import Standing
from fleet.tables import members as rows
from modules.protocol.report import SlotReport

# Devices of a wave that are looked at: those that failed first.
LOOKED: Final = 200
_Told = Sequence[tuple[str, SlotReport]]


def view(connection: Connection, rollout: int, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """Each gate of each open wave, from what its devices said last of the module.

    Raises:
        Missing: there is no such rollout.
    """
    row = control.get(connection, rollout)
    gates = msgspec.json.decode(row.policy, type=Policy).gates
    mine = scope.of_team(row.module.partition("/")[0]).of_device(rows.c.device)
    found = []
    for wave in range(1, row.wave + 1 if gates else 1):
        told = _told(connection, rollout, wave, mine)
        found += [{"wave": wave} | _of_gate(gate, told) for gate in gates]
    return found


def _told(connection: Connection, rollout: int, wave: int, mine: Any) -> _Told:
    said = (rows.c.rollout == rollout) & (rows.c.wave == wave) & rows.c.detail.is_not(None) & mine
    first = case((rows.c.standing == Standing.FAILED, 0), else_=1)
    chosen = select(rows.c.device, rows.c.detail).where(said).order_by(first, rows.c.device).limit(LOOKED)
    return [(one.device, msgspec.json.decode(one.detail, type=SlotReport)) for one in connection.execute(chosen)]


def _of_gate(gate: Gate, told: _Told) -> dict[str, Any]:
    readings = [(device, read(gate, said)) for device, said in told]
    counts = Counter(one.outcome for _, one in readings)
    known = [(device, one) for device, one in readings if one.value is not None]
    worst = max(known, key=lambda one: _badness(gate, one[1]), default=None)
    name, allowed = limit(gate)
    return {
        "measure": gate.measure,
        "limit": name,
        "allowed": allowed,
        "minimum": gate.minimum,
        "met": counts["met"],
        "failed": counts["failed"],
        "waits": counts["waits"],
        "worst": None if worst is None else {"device": worst[0]} | msgspec.to_builtins(worst[1]),
    }


def _badness(gate: Gate, one: Reading) -> tuple[bool, float]:
    """What failed before what did not; then the further from good, the greater."""
    value = one.value if isinstance(one.value, float) else 0.0
    if gate.at_most_times is not None and one.before:
        value /= one.before
    return one.outcome == "failed", -value if gate.at_least is not None else value
