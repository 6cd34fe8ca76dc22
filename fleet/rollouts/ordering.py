"""Who gets an order next: open waves in turn, as many at once as the policy allows, a few at a time of one place."""

from collections import Counter
from typing import Any

from sqlalchemy import Connection, func, or_, select

from fleet.rollouts.model import Policy
from fleet.rollouts.phases import Standing
from fleet.tables import members


def due(connection: Connection, rollout: int, wave: int, policy: Policy, *, limit: int) -> list[Any]:
    """The members whose turn it is, at most ``limit``."""
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
    at_work: Counter[str] = Counter()
    if policy.budget is not None:
        at_work = _at_work(connection)
        full = [place for place, count in at_work.items() if count >= policy.budget.at_most]
        chosen = chosen.where(members.c.place.not_in(full))
    found = []
    for row in connection.execute(chosen.order_by(members.c.wave, members.c.device).limit(limit)):
        if policy.budget is not None:
            if at_work[row.place] >= policy.budget.at_most:
                continue
            at_work[row.place] += 1
        found.append(row)
    return found


def _working(connection: Connection, rollout: int) -> int:
    mine = (members.c.rollout == rollout) & (members.c.standing == Standing.WORKING) & members.c.current
    return connection.execute(select(func.count()).select_from(members).where(mine)).scalar_one()


def _at_work(connection: Connection) -> Counter[str]:
    """Devices at work at each place, for whichever rollout: a place is disturbed by all of them."""
    working = (members.c.standing == Standing.WORKING) & members.c.current
    working = or_(working, members.c.standing == Standing.RETURNING) & members.c.place.is_not(None)
    grouped = select(members.c.place, func.count().label("devices")).where(working).group_by(members.c.place)
    return Counter({row.place: row.devices for row in connection.execute(grouped)})
