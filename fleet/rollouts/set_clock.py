"""What rollouts wait for is measured by the time that passes: where the wall's clock is set, their moments go along.

Deadlines and soaks stand in the database as moments of the wall's clock, for people, and for a server that takes over.
A server that sees the clock jump moves all of them by as much. One that was not there can tell a jump back alone, by
moments that lie further away than anybody is waited for: these are brought to the longest wait.
"""

from typing import Final, NamedTuple

from sqlalchemy import Connection, Table, select, update

from fleet.rollouts.phases import Standing
from fleet.tables import members, rollouts
from fleet.target_tables import shares

# A clock that is kept right by the network goes a little faster or slower; it does not jump so far.
_JUMP_S: Final = 5.0
_OPEN: Final = (Standing.WORKING, Standing.RETURNING)


class Look(NamedTuple):
    """One look at two clocks: the wall's, and the seconds since the machine started."""

    now: float
    passed: float


def keep(connection: Connection, before: Look | None, look: Look) -> None:
    """Bring what is waited for to the clock as it is now; ``before`` is None for a server's first look."""
    jump = 0.0 if before is None else look.now - before.now - (look.passed - before.passed)
    if abs(jump) > _JUMP_S:
        for table in (members, shares):
            connection.execute(update(table).where(table.c.due.is_not(None)).values(due=table.c.due + jump))
        since = rollouts.c.complete_since
        connection.execute(update(rollouts).where(since.is_not(None)).values(complete_since=since + jump))
        connection.execute(update(rollouts).where(rollouts.c.look_at.is_not(None)).values(look_at=0))
    if before is None or look.now < before.now:
        for table in (members, shares):
            _bound(connection, table, look.now)
        connection.execute(update(rollouts).where(rollouts.c.look_at > look.now).values(look_at=0))


def _bound(connection: Connection, table: Table, now: float) -> None:
    """Nobody is waited for longer than a whole deadline from now on."""
    longest = select(now + rollouts.c.deadline_s).where(rollouts.c.id == table.c.rollout).scalar_subquery()
    late = (table.c.due > now) & table.c.standing.in_(_OPEN) & (table.c.due > longest)
    connection.execute(update(table).where(late).values(due=longest))
