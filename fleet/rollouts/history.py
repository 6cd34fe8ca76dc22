"""What happened to a rollout, in words and in order."""

from typing import Any

from sqlalchemy import Connection, insert, select

from fleet.tables import history


def add(connection: Connection, now: float, rollout: int, what: str, *, by: str = "") -> None:
    """``by`` is who asked for it; nobody did where the server decided by itself."""
    connection.execute(insert(history).values(rollout=rollout, at=now, what=what, by=by))


def view(connection: Connection, rollout: int) -> list[dict[str, Any]]:
    """Oldest first."""
    rows = connection.execute(select(history).where(history.c.rollout == rollout).order_by(history.c.id))
    return [{"at": row.at, "what": row.what, "by": row.by} for row in rows]
