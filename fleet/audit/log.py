"""Rows of the audit log, added in the transaction of whoever writes: one writer at a time keeps the chain whole."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, insert, select

from fleet.audit.chain import BEGIN, Entry, link
from fleet.tables import audit
from modules.words import printable

# Of foreign words: a path, a name.
_LONGEST: Final = 300
PAGE: Final = 1000
_FIELDS: Final = Entry.__struct_fields__


def add(
    connection: Connection,
    at: float,
    *,
    by: str,
    action: str,
    target: str = "",
    origin: str = "",
    outcome: int = 0,
    code: str = "",
) -> None:
    """Add a row; foreign text is cut and loses its control characters.

    Args:
        connection: a writing transaction.
        at: Unix seconds.
        by: who, as the history names them; empty where nobody is known.
        action: the route, as ``POST /api/v1/rollouts``, or the server's own command.
        target: what it was about, as the path that was asked.
        origin: the address that the request came from.
        outcome: the HTTP status; 0 for what was done on the server itself.
        code: why it was refused, as in the problem document.
    """
    last = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).one_or_none()
    entry = Entry(
        id=1 if last is None else last.id + 1,
        at=round(at, 3),
        by=printable(by, _LONGEST),
        origin=printable(origin, _LONGEST),
        action=printable(action, _LONGEST),
        target=printable(target, _LONGEST),
        outcome=outcome,
        code=printable(code, 100),
        hash=BEGIN,
    )
    chained = link(BEGIN if last is None else last.hash, entry)
    connection.execute(insert(audit).values({name: getattr(entry, name) for name in _FIELDS} | {"hash": chained}))


def page(connection: Connection, after: int, *, limit: int = PAGE) -> list[Entry]:
    """The rows after one, in order."""
    rows = connection.execute(select(audit).where(audit.c.id > after).order_by(audit.c.id).limit(limit))
    return _entries(rows)


def newest(connection: Connection, *, limit: int, by: str = "", action: str = "", before: int = 0) -> list[Entry]:
    """The newest rows first: those of somebody, of an action that contains these words, or before a row."""
    asked = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if by:
        asked = asked.where(audit.c.by == by)
    if action:
        asked = asked.where(audit.c.action.contains(action, autoescape=True))
    if before:
        asked = asked.where(audit.c.id < before)
    return _entries(connection.execute(asked))


def last(connection: Connection) -> tuple[int, str]:
    """Id and hash of the newest row."""
    row = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).one_or_none()
    return (0, BEGIN) if row is None else (int(row.id), str(row.hash))


def _entries(rows: Iterable[object]) -> list[Entry]:
    return [Entry(**{name: getattr(row, name) for name in _FIELDS}) for row in rows]
