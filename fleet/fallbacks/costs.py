"""What endpoints cost: an estimate, by the operator's own prices of a replica an hour, and of a thousand requests.

A replica is counted from when it is asked for until nothing is left of it. How far that is counted stands in the row,
and is moved in one transaction with the sum: a server that was away goes on where it was, and counts nothing twice.
Requests are those that its gateway counted (``tallies.py``).
"""

import datetime as dt
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from fleet.fallback_tables import costs
from fleet.fallbacks.policies import day_of
from fleet.target_tables import endpoints, targets
from fleet.targets.endpoints import REMOVING, wish_of
from fleet.targets.scaling import replicas_of, standing_of

COUNT_S: Final = 10.0
KEEP_DAYS: Final = 100
_DAY_S: Final = 86400
_HOUR_S: Final = 3600.0


def count(connection: Connection, now: float, *, due_s: float = COUNT_S) -> None:
    """Add what has run since it was counted last; of what was counted less than ``due_s`` ago, nothing yet."""
    priced = select(endpoints, targets.c.price_per_hour).join(targets, targets.c.name == endpoints.c.target)
    for row in connection.execute(priced).all():
        if row.counted is not None and 0 <= now - row.counted < due_s:
            continue
        begin = now if row.counted is None else row.counted
        # Time that goes back is none.
        if begin < now and (running := replicas(row)):
            for day in range(day_of(begin), day_of(now) + 1):
                seconds = min(now, (day + 1) * _DAY_S) - max(begin, day * _DAY_S)
                worked = running * seconds
                cost = worked / _HOUR_S * row.price_per_hour
                add(connection, row.name, day * _DAY_S, replica_s=worked, cost=cost)
        connection.execute(update(endpoints).where(endpoints.c.name == row.name).values(counted=now))
    connection.execute(delete(costs).where(costs.c.day < day_of(now) - KEEP_DAYS))


def replicas(row: Any) -> int:
    """How many replicas of an endpoint cost money now."""
    if row.state == "stopped":
        return 0
    wish, stands = wish_of(row), standing_of(row)
    found = 0
    for name in wish.versions:
        there = stands.versions[name].ready if name in stands.versions else 0
        wanted = 0 if row.scale == 0 or row.state == REMOVING else replicas_of(row, wish, name)
        found += max(there, wanted)
    return max(found, 1)


def today(connection: Connection, now: float, endpoint: str) -> float:
    """What an endpoint has cost on this day of UTC so far."""
    mine = (costs.c.endpoint == endpoint) & (costs.c.day == day_of(now))
    return float(connection.scalar(select(costs.c.cost).where(mine)) or 0.0)


def view(connection: Connection, now: float, row: Any) -> dict[str, Any]:
    """An endpoint's costs as the API shows them."""
    prices = select(targets.c.price_per_hour, targets.c.price_per_1000).where(targets.c.name == row.target)
    price = connection.execute(prices).one()
    mine = (costs.c.endpoint == row.name) & (costs.c.day == day_of(now))
    found = connection.execute(select(costs).where(mine)).one_or_none()
    return {
        "price_per_hour": price.price_per_hour,
        "price_per_1000": price.price_per_1000,
        "today": round(found.cost, 6) if found else 0.0,
        "replica_hours_today": round(found.replica_s / _HOUR_S, 6) if found else 0.0,
        "requests_today": found.requests if found else 0,
    }


def by_days(connection: Connection, now: float, endpoint: str, days: int) -> list[dict[str, Any]]:
    """What an endpoint has cost on each of the last days of UTC, today's so far; the oldest first."""
    last = day_of(now)
    mine = (costs.c.endpoint == endpoint) & (costs.c.day > last - days) & (costs.c.day <= last)
    found = {row.day: row for row in connection.execute(select(costs).where(mine))}
    listed = []
    for day in range(last - days + 1, last + 1):
        row = found.get(day)
        listed.append(
            {
                "day": dt.datetime.fromtimestamp(day * _DAY_S, dt.UTC).date().isoformat(),
                "cost": round(row.cost, 6) if row else 0.0,
                "replica_hours": round(row.replica_s / _HOUR_S, 6) if row else 0.0,
                "requests": row.requests if row else 0,
            }
        )
    return listed


def add(
    connection: Connection, endpoint: str, now: float, *, cost: float, replica_s: float = 0.0, requests: int = 0
) -> None:
    """Add to what an endpoint has cost on the day of a moment."""
    day = day_of(now)
    mine = (costs.c.endpoint == endpoint) & (costs.c.day == day)
    more = {"replica_s": replica_s, "requests": requests, "cost": cost}
    sums = {name: costs.c[name] + value for name, value in more.items()}
    if not connection.execute(update(costs).where(mine).values(sums)).rowcount:
        connection.execute(insert(costs).values(endpoint=endpoint, day=day, **more))
