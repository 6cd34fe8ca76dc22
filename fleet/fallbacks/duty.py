"""Starts, scales and stops endpoints as devices need them, and counts what they cost: a duty of the server that leads.

Nothing is remembered between two looks but the rows, so that a server that was killed goes on where it was.
``fleet/targets/duty.py`` brings about what is decided here.
"""

import asyncio
import datetime as dt
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update

from fleet import events
from fleet.clock import Clock
from fleet.db import Database
from fleet.fallback_tables import demands
from fleet.fallback_tables import policies as policy_rows
from fleet.fallbacks import costs, needs, policies, tallies
from fleet.fallbacks.policies import Known
from fleet.mishaps import Mishaps
from fleet.target_tables import endpoints
from fleet.targets import scaling
from fleet.targets.endpoints import REMOVING, wish_of

LOOK_S: Final = 2.0
# So many times as long as it took, the duty rests after a look.
_PAUSE: Final = 10


class Meeting:
    """Meets the needs: ``run`` is the duty."""

    def __init__(self, *, database: Database, clock: Clock, mishaps: Mishaps) -> None:
        self._database, self._clock, self._mishaps = database, clock, mishaps

    async def run(
        self, lasting: Callable[..., Awaitable[Any]], *, changed: Callable[[], None], renewed: Callable[[], None]
    ) -> None:
        """Look for ever; ``lasting`` does the database's work, again and again until it is done.

        Args:
            lasting: as of all duties.
            changed: has what was decided brought about.
            renewed: has the orders made that are to be made anew.
        """
        while True:
            began = asyncio.get_running_loop().time()
            with self._mishaps.alone("fallbacks", "who needs an endpoint"):
                scaled, told = await lasting(self.look)
                if scaled:
                    changed()
                if told:
                    renewed()
            # A look reads of each device that has the model: of a large fleet it is taken less often.
            await asyncio.sleep(max(LOOK_S, _PAUSE * (asyncio.get_running_loop().time() - began)))

    def look(self) -> tuple[bool, bool]:
        """One look, as :func:`look`; where there is no endpoint, nothing is written."""
        with self._database.read() as connection:
            if connection.execute(select(endpoints.c.name).limit(1)).first() is None:
                return False, False
            # Read before the writers' lock is taken, which others wait for.
            found = who(connection, self._clock())
        with self._database.write() as connection:
            return look(connection, self._clock(), found)


def who(connection: Connection, now: float) -> dict[str, dict[str, str]]:
    """Of each endpoint that runs on demand the devices that need it, each with the reason."""
    every = policies.read(connection)
    by_need = policies.on_demand(every)
    rows = [row for row in connection.execute(select(endpoints)) if row.name in by_need]
    return needs.of_all(connection, now, every, rows) if rows else {}


def look(connection: Connection, now: float, found: dict[str, dict[str, str]]) -> tuple[bool, bool]:
    """Count, bound and scale; whether an endpoint is to be changed, and whether orders are to be made anew.

    ``found`` is what :func:`who` found; what is on demand since then waits for the next look.
    """
    costs.count(connection, now)
    every = policies.read(connection)
    told = _bound(connection, now, every)
    every = policies.read(connection) if told else every
    by_need = policies.on_demand(every)
    wanted, scaled = [], False
    for row in connection.execute(select(endpoints).where(endpoints.c.state != REMOVING)).all():
        if row.name in by_need:
            wanted.append(row)
        elif row.scale is not None:
            scaled = True
            scaling.scale(connection, now, row, None, "")
    connection.execute(delete(demands).where(demands.c.endpoint.not_in([row.name for row in wanted])))
    for row in wanted:
        if row.name in found:
            linger, spent = by_need[row.name], _all_spent(every, row.name, now)
            scaled = _met(connection, now, row, found[row.name], linger_s=linger, spent=spent) or scaled
    return scaled, told


def _bound(connection: Connection, now: float, every: list[Known]) -> bool:
    """Note which policies' money is spent today, and have the orders made anew of whom that concerns."""
    told = False
    for one in every:
        bound = one.policy.money_a_day
        spent = bool(bound) and costs.today(connection, now, one.endpoint) >= bound
        if spent == one.is_spent(now) and (spent or one.spent_on < 0):
            continue
        told = True
        mine = policy_rows.c.id == one.id
        connection.execute(update(policy_rows).where(mine).values(spent_on=policies.day_of(now) if spent else -1))
        policies.renew(connection, one.team, one.model, str(one.selector))
        if spent:
            what = f"the {bound:g} a day are spent: nobody is sent there until 00:00 UTC"
            message = f"{one.team}/{one.model} where {one.selector}, endpoint {one.endpoint}: {what}"
            events.record(connection, now, "fallback-spent", message)
    return told


def _all_spent(every: list[Known], endpoint: str, now: float) -> bool:
    return all(one.is_spent(now) for one in every if one.endpoint == endpoint)


def _met(
    connection: Connection, now: float, row: Any, found: dict[str, str], *, linger_s: int, spent: bool
) -> bool:  # fmt: skip
    """Decide about one endpoint; True if it is to be changed."""
    kept = connection.execute(select(demands).where(demands.c.endpoint == row.name)).one_or_none()
    idle_since = None if found else now if kept is None or kept.idle_since is None else min(kept.idle_since, now)
    scaled_at = now if kept is None else min(kept.scaled, now)
    replicas, why = _decided(now, row, found, idle_since, linger_s=linger_s, spent=spent)
    if row.scale is not None and 0 < replicas < row.scale and now - scaled_at < linger_s:
        replicas = row.scale  # fewer only after a while, so that it does not go to and fro
    changes = bool(replicas != row.scale)
    if changes:
        # What ran until now is counted as what it was.
        costs.count(connection, now, due_s=0.0)
        verb = "is stopped" if replicas == 0 else f"runs with {replicas} replicas"
        events.record(connection, now, "endpoint-scaled", f"endpoint {row.name} {verb}: {why}")
    scaling.scale(connection, now, row, replicas, why)
    values = {"idle_since": idle_since, "devices": len(found), "scaled": now if changes else scaled_at}
    mine = demands.c.endpoint == row.name
    if kept is None:
        connection.execute(insert(demands).values(endpoint=row.name, **values))
    elif values != {name: getattr(kept, name) for name in values}:
        connection.execute(update(demands).where(mine).values(**values))
    return changes


def _decided(
    now: float, row: Any, found: dict[str, str], idle_since: float | None, *, linger_s: int, spent: bool
) -> tuple[int, str]:
    """How many replicas, and why, in one sentence."""
    wish = wish_of(row)
    least = wish.versions[wish.default].replicas
    if spent:
        return 0, "the money of today is spent; it may run again from 00:00 UTC on"
    if found:
        most = max(least, wish.settings.replicas_max)
        asked = math.ceil(len(found) / wish.settings.devices_per_replica)
        loaded, load = tallies.replicas(now, row, wish)
        words = f"it runs for {needs.in_words(found)}"
        if loaded > max(asked, least):
            words += f", with {load}"
        return min(max(asked, loaded, least), most), words
    if not scaling.standing_of(row).url:
        return least, "it runs once, so that its address is known"
    assert idle_since is not None  # noqa: S101 - for mypy: nobody needs it
    if now - idle_since < linger_s and row.scale != 0:
        return row.scale or least, f"nobody needs it: it stops at {_time(idle_since + linger_s)}"
    return 0, "no device needs it"


def _time(at: float) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%H:%M} UTC"
