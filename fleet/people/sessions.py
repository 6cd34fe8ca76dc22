"""Sessions of browsers: a random id in a cookie, whose hash alone is in the database.

A session ends when it was not used for a while, at a fixed time after the log-in, and at once when its operator logs
out, is disabled, gets other roles or another password.
"""

import secrets
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, select, update

from fleet.refusals import Unauthorised
from fleet.tables import operators, sessions
from fleet.tokens import hashed

PREFIX: Final = "efs_"
_LIMIT: Final = 100
_OWNER: Final = (operators.c.name, operators.c.roles, operators.c.disabled, operators.c.must_change)


def begin(connection: Connection, now: float, operator: int, *, life_s: float) -> str:
    """Make a session and return what its cookie holds; sessions that are over go."""
    text = PREFIX + secrets.token_urlsafe(32)
    connection.execute(delete(sessions).where(sessions.c.ends <= now))
    connection.execute(
        insert(sessions).values(hash=hashed(text), operator=operator, created=now, seen=now, ends=now + life_s)
    )
    return text


def holder(connection: Connection, now: float, text: str, *, idle_s: float) -> Row[Any]:
    """A session's row, with its operator's name and roles.

    Raises:
        Unauthorised: there is none, or it is over.
    """
    found = None
    if text.startswith(PREFIX) and len(text) <= _LIMIT:
        wanted = select(sessions, *_OWNER).join(operators).where(sessions.c.hash == hashed(text))
        found = connection.execute(wanted).one_or_none()
    if found is None or found.ends <= now or found.seen + idle_s <= now or found.disabled is not None:
        raise Unauthorised("this session is over", element="session", remedy="log in again")
    return found


def seen(connection: Connection, now: float, session: str) -> None:
    """A session, by its hash, was used."""
    connection.execute(update(sessions).where(sessions.c.hash == session).values(seen=now))


def end(connection: Connection, session: str) -> None:
    """End one session, by its hash."""
    connection.execute(delete(sessions).where(sessions.c.hash == session))


def end_all(connection: Connection, operator: int, *, but: str = "") -> None:
    """End every session of an operator; ``but`` is the hash of one that stays."""
    connection.execute(delete(sessions).where(sessions.c.operator == operator, sessions.c.hash != but))
