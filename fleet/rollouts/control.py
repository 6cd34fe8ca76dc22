"""What an operator sees of rollouts and does with them: look, pause, resume, cancel, and empty a slot."""

from typing import Any

from sqlalchemy import Connection, Row, select, update

from fleet import revisions
from fleet.orders import Orders
from fleet.refusals import Conflict, Missing
from fleet.rollouts import history, members, phases
from fleet.tables import rollouts
from modules.names import DeviceId, Slug

ACTIONS = {"pause": phases.PAUSED, "resume": phases.RUNNING, "cancel": phases.CANCELLED}


def view(connection: Connection, rollout: int) -> dict[str, Any]:
    """One rollout with its devices, misfits and history.

    Raises:
        Missing: there is no such rollout.
    """
    row = _row(connection, rollout)
    more = {"devices": members.view(connection, rollout), "history": history.view(connection, rollout)}
    return _summary(row) | {"misfits": row.misfits} | more


def view_all(connection: Connection) -> list[dict[str, Any]]:
    """Every rollout in short, the newest first."""
    return [_summary(row) for row in connection.execute(select(rollouts).order_by(rollouts.c.id.desc()))]


def act(connection: Connection, now: float, rollout: int, action: str, *, by: str = "") -> None:
    """Pause, resume or cancel. A paused rollout opens no wave, and devices keep the orders they have.

    A cancelled one is taken back, by the engine, from each device that has neither committed nor failed: it is ordered
    what was decided for its slot before.

    Raises:
        Missing: there is no such rollout.
        Conflict: its state does not allow it.
    """
    state, wanted = _row(connection, rollout).state, ACTIONS[action]
    # Only the engine opens a rollout that is done again.
    if wanted not in phases.NEXT[state] or state == phases.DONE:
        raise Conflict(f"a rollout that is {state} cannot be changed so", element=f"rollout {rollout} {action}")
    move(connection, now, rollout, wanted, f"{action} by {by or 'an operator'}", by=by)


def move(connection: Connection, now: float, rollout: int, state: str, why: str, *, by: str = "") -> None:
    """Change a rollout's state, which the caller has checked against the table, and say why."""
    connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(state=state))
    history.add(connection, now, rollout, f"{state}: {why}", by=by)


def empty_slot(
    connection: Connection, now: float, orders: Orders, device: DeviceId, slot: Slug, *, by: str = ""
) -> int:
    """Order a slot's removal; returns the order's counter.

    Raises:
        Missing: no module is ordered for this slot.
    """
    if not revisions.empty(connection, now, by, device, slot):
        raise Missing("no module is ordered for this slot", element=f"{device}/{slot}")
    members.retire(connection, [device], slot)
    return orders.issue(connection, now, device)


def _row(connection: Connection, rollout: int) -> Row[Any]:
    row = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
    if row is None:
        raise Missing("there is no such rollout", element=str(rollout))
    return row


def _summary(row: Row[Any]) -> dict[str, Any]:
    shown = {name: getattr(row, name) for name in ("module", "slot", "state", "wave", "waves", "created")}
    return {"id": str(row.id)} | shown
