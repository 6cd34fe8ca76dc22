"""How many devices were in which state over time: one row for each quarter of an hour, and only of the newest days."""

from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from fleet.device_list import counts
from fleet.look_tables import health_counts

QUARTER_S: Final = 900
KEPT_S: Final = 8 * 86_400
STATES: Final = ("online", "updating", "degraded", "offline", "revoked")


def record(connection: Connection, now: float) -> None:
    """Count once for this quarter of an hour, and forget what is older than is kept."""
    at = int(now // QUARTER_S) * QUARTER_S
    if connection.scalar(select(health_counts.c.at).where(health_counts.c.at == at)) is not None:
        return
    found = counts(connection)
    connection.execute(insert(health_counts).values(at=at, **{state: found.get(state, 0) for state in STATES}))
    connection.execute(delete(health_counts).where(health_counts.c.at < at - KEPT_S))


def since(connection: Connection, begin: float) -> list[dict[str, Any]]:
    """The counts from then on, in the order of time; a server that was off leaves a gap."""
    rows = connection.execute(select(health_counts).where(health_counts.c.at >= begin).order_by(health_counts.c.at))
    return [dict(row) for row in rows.mappings()]
