"""Taking a rollout back: from some devices or all, each to exactly what was decided for its slot before."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, case, select, true, update

from fleet import revisions
from fleet.orders import Orders
from fleet.rollouts import members, phases
from fleet.rollouts.phases import Standing
from fleet.tables import members as rows
from fleet.tables import rollouts, slots

# What is still on its way to the module; the rest has come to an end.
UNENDED: Final = (Standing.WORKING, Standing.UNREACHED)
_ORDERED: Final = (Standing.WORKING, Standing.UNREACHED, Standing.SUCCEEDED, Standing.FAILED, Standing.SKIPPED)


def begin(connection: Connection, rollout: int, note: str, which: ColumnElement[bool] | None = None) -> int:
    """Have the engine take these members' orders back, all unless said otherwise; returns how many have one."""
    mine = and_(rows.c.rollout == rollout, rows.c.current, true() if which is None else which)
    begun = mine & rows.c.revision.is_not(None) & rows.c.standing.in_(_ORDERED)
    return members.change(connection, begun, standing=Standing.RECALLED, due=None, note=note)


def forget_planned(connection: Connection, rollout: int, note: str, which: ColumnElement[bool] | None = None) -> None:
    """Members without an order get none: their slots belong again to whom this rollout had taken them from."""
    mine = and_(rows.c.rollout == rollout, rows.c.current, true() if which is None else which)
    planned = mine & rows.c.standing.in_((Standing.PLANNED, Standing.STOPPED))
    devices = select(rows.c.device).where(planned).scalar_subquery()
    earlier = (rows.c.superseded_by == rollout) & rows.c.device.in_(devices)
    members.change(connection, earlier, current=True, superseded_by=None)
    members.change(connection, planned, standing=Standing.SKIPPED, current=False, due=None, note=note)


def some(connection: Connection, rollout: int, *, limit: int) -> list[Any]:
    """The next members whose orders are to be taken back, in the order of an index: every look asks for them."""
    waiting = select(rows.c.device, rows.c.slot, rows.c.revision, rollouts.c.deadline_s).join(rollouts)
    mine = (rows.c.rollout == rollout) & (rows.c.standing == Standing.RECALLED)
    return list(connection.execute(waiting.where(mine).order_by(rows.c.wave, rows.c.device).limit(limit)))


def one(connection: Connection, now: float, orders: Orders, rollout: int, row: Any) -> None:
    """Order again what was decided for this device's slot before this rollout."""
    values: dict[str, Any] = {"current": False, "phase": phases.WITHDRAWN}
    if not revisions.back_to_before(connection, now, "", row.device, row.slot, row.revision):
        values |= {"standing": Standing.RETURNED, "note": "something newer decides about the slot now"}
    else:
        counter = orders.issue(connection, now, row.device)
        values |= {"standing": Standing.RETURNING, "counter": counter, "due": now + row.deadline_s}
        _give_back(connection, now, rollout, row, counter)
    connection.execute(update(rows).where(members.of(row.device, rollout)).values(**values))


def _give_back(connection: Connection, now: float, rollout: int, row: Any, counter: int) -> None:
    """The slot belongs again to whoever waited for it when this rollout took it, else to whose content it has again."""
    mine = (rows.c.device == row.device) & (rows.c.slot == row.slot)
    waited = mine & (rows.c.superseded_by == rollout) & (rows.c.standing == Standing.PLANNED)
    if members.change(connection, waited, current=True, superseded_by=None):
        return
    here = (slots.c.device == row.device) & (slots.c.slot == row.slot)
    content = connection.execute(select(slots.c.rollout, slots.c.revision).where(here)).one_or_none()
    if content is None:
        return
    due = case((rows.c.standing == Standing.WORKING, now + row.deadline_s), else_=rows.c.due)
    # By its newest revision, so that it can be taken back in turn.
    given = {"counter": counter, "revision": content.revision, "due": due}
    members.change(connection, mine & (rows.c.rollout == content.rollout), current=True, superseded_by=None, **given)


def unfinished(connection: Connection, rollout: int) -> bool:
    """Whether a device has still to be told, or to answer."""
    waiting = rows.c.standing.in_((Standing.RECALLED, Standing.RETURNING))
    chosen = select(rows.c.device).where(rows.c.rollout == rollout, waiting).limit(1)
    return connection.execute(chosen).one_or_none() is not None
