"""What happened that an operator may have to look at: refusals, forgeries, enrolments. Rows that are only added."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, insert, select, true

from fleet.people.scope import EVERYTHING, Scope
from fleet.tables import events
from modules.words import printable

MESSAGE_LIMIT: Final = 500


def record(
    connection: Connection, at: float, kind: str, message: str, *, device: str | None = None, by: str = ""
) -> None:
    """Add an event that the principal ``by`` brought about; foreign text is cut and loses its control characters."""
    connection.execute(
        insert(events).values(at=at, kind=kind, device=device, message=printable(message, MESSAGE_LIMIT), by=by)
    )


def record_each(connection: Connection, at: float, kind: str, said: Iterable[tuple[str, str]], *, by: str = "") -> None:
    """The same for many devices, each with its message, in one statement."""
    rows = [
        {"at": at, "kind": kind, "device": device, "message": printable(message, MESSAGE_LIMIT), "by": by}
        for device, message in said
    ]
    if rows:
        connection.execute(insert(events), rows)


def newest(
    connection: Connection,
    scope: Scope = EVERYTHING,
    *,
    limit: int = 200,
    kind: str = "",
    device: str = "",
    before: int = 0,
) -> list[dict[str, object]]:
    """The newest events first; of a bounded scope those of its devices. Of a kind, of a device, or before one."""
    mine = true() if scope.unlimited else events.c.device.is_not(None) & scope.of_device(events.c.device)
    asked = select(events).where(mine).order_by(events.c.id.desc()).limit(limit)
    if kind:
        asked = asked.where(events.c.kind == kind)
    if device:
        asked = asked.where(events.c.device == device)
    if before:
        asked = asked.where(events.c.id < before)
    rows = connection.execute(asked)
    shown = ("id", "at", "kind", "device", "message", "by")
    return [{name: getattr(row, name) for name in shown} for row in rows]
