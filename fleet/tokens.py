"""Random tokens of operators and joining devices; the database holds only their hashes (of the latter fleet/joins.py).

A token has 256 random bits, so one SHA-256 is as good as a slow hash and costs nothing per request.
"""

import hashlib
import secrets
from typing import Final

from sqlalchemy import Connection, insert, select

from fleet.refusals import Unauthorised
from fleet.tables import tokens

PREFIX: Final = "eft_"
_LIMIT: Final = 100


def create(
    connection: Connection, now: float, *, kind: str, role: str, uses: int | None = None, life_s: float | None = None
) -> str:
    """Make a token and return its text, which exists nowhere else."""
    text = make()
    connection.execute(
        insert(tokens).values(
            kind=kind,
            hash=_hash(text),
            role=role,
            uses_left=uses,
            created=now,
            expires=None if life_s is None else now + life_s,
        )
    )
    return text


def role(connection: Connection, now: float, text: str, *, kind: str) -> str:
    """The role of a token that holds, used up or not.

    Raises:
        Unauthorised: unknown, of another kind, or expired; which of them is not said.
    """
    return holder(connection, now, text, kind=kind)[0]


def holder(connection: Connection, now: float, text: str, *, kind: str) -> tuple[str, str]:
    """The role of a token that holds, and the name under which the history knows it.

    Raises:
        Unauthorised: unknown, of another kind, or expired; which of them is not said.
    """
    found = None
    if text.startswith(PREFIX) and len(text) <= _LIMIT:
        # Looked up by hash: how long the comparison takes tells nothing about the token.
        found = connection.execute(select(tokens).where(tokens.c.hash == _hash(text))).one_or_none()
    if found is None or found.kind != kind or (found.expires is not None and found.expires <= now):
        raise Unauthorised("this token does not hold", element=f"{kind} token", remedy="ask an operator for a new one")
    return str(found.role), f"token {found.id} ({found.role})"


def make() -> str:
    """A new token, which exists nowhere else."""
    return PREFIX + secrets.token_urlsafe(32)


def hashed(given: str) -> str | None:
    """What the database may hold of a token; None where it cannot be one."""
    return _hash(given) if given.startswith(PREFIX) and len(given) <= _LIMIT else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
