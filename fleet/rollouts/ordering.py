"""Who gets an order next: open waves in turn, as many at once as the policy allows, a few at a time of one place."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, or_, select

from fleet.rollouts.model import Policy
from fleet.rollouts.phases import Standing
from fleet.tables import members

_others = members.alias()


def due(connection: Connection, rollout: int, wave: int, policy: Policy, *, limit: int, but: str = "") -> Sequence[Any]:
    """The members whose turn it is, at most ``limit``; none of the hardware ``but``, which has to wait."""
    if policy.concurrency is not None:
        limit = min(limit, policy.concurrency - _working(connection, rollout))
    if limit <= 0:
        return []
    chosen = select(members.c.device, members.c.slot, members.c.place, members.c.revision).where(
        members.c.rollout == rollout,
        members.c.wave <= wave,
        members.c.standing == Standing.PLANNED,
        members.c.current,
    )
    if but:
        chosen = chosen.where(members.c.hardware != but)
    if policy.budget is not None:
        full = _busy().having(func.count() >= policy.budget.at_most)
        chosen = chosen.where(members.c.place.not_in(full))
    waiting = connection.execute(chosen.order_by(members.c.wave, members.c.device).limit(limit)).all()
    return waiting if policy.budget is None else _within(connection, waiting, policy.budget.at_most)


def _within(connection: Connection, waiting: Sequence[Any], at_most: int) -> list[Any]:
    """Those for whom there is room where they are."""
    places = sorted({row.place for row in waiting})
    counted = _busy().add_columns(func.count().label("devices")).where(_others.c.place.in_(places))
    at_work = Counter({row.place: row.devices for row in connection.execute(counted)})
    found = []
    for row in waiting:
        if at_work[row.place] < at_most:
            at_work[row.place] += 1
            found.append(row)
    return found


def _working(connection: Connection, rollout: int) -> int:
    mine = (members.c.rollout == rollout) & (members.c.standing == Standing.WORKING) & members.c.current
    return connection.execute(select(func.count()).select_from(members).where(mine)).scalar_one()


def _busy() -> Select[Any]:
    """The places at which devices are at work, for whichever rollout: a place is disturbed by all of them."""
    working = (_others.c.standing == Standing.WORKING) & _others.c.current
    working = or_(working, _others.c.standing == Standing.RETURNING) & _others.c.place.is_not(None)
    return select(_others.c.place).where(working).group_by(_others.c.place)
