"""Random tokens of operators and joining devices; the database holds only their hashes (of the latter fleet/joins.py).

A token has 256 random bits, so one SHA-256 is as good as a slow hash and costs nothing per request.
"""

import hashlib
import re
import secrets
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select

from fleet.refusals import Unauthorised
from fleet.tables import operators, tokens

PREFIX: Final = "eft_"
_LIMIT: Final = 100
# Tokens and sessions, wherever somebody has put one by mistake.
_TEXT: Final = re.compile(r"(ef[ts]_)[\w-]{8,}")
_OWNER: Final = (operators.c.name, operators.c.roles, operators.c.disabled, operators.c.must_change)
_WITH_OWNER: Final = select(tokens, *(one.label(f"owner_{one.name}") for one in _OWNER)).outerjoin(operators)


def create(
    connection: Connection,
    now: float,
    *,
    kind: str,
    role: str,
    uses: int | None = None,
    life_s: float | None = None,
    **more: Any,
) -> str:
    """Make a token and return its text, which exists nowhere else; ``more`` are further columns of its row."""
    text = make()
    connection.execute(
        insert(tokens).values(
            kind=kind,
            hash=hashed(text),
            role=role,
            uses_left=uses,
            created=now,
            expires=None if life_s is None else now + life_s,
            **more,
        )
    )
    return text


def role(connection: Connection, now: float, text: str, *, kind: str) -> str:
    """The role of a token that holds, used up or not.

    Raises:
        Unauthorised: unknown, of another kind, or expired; which of them is not said.
    """
    row = holder(connection, now, text, kind=kind)
    return str(row.role)


def holder(connection: Connection, now: float, text: str, *, kind: str) -> Row[Any]:
    """The row of a token that holds, used up or not, with ``owner_...`` of the operator whose it is.

    Raises:
        Unauthorised: unknown, of another kind, revoked, or expired; which of them is not said.
    """
    found = None
    if text.startswith(PREFIX) and len(text) <= _LIMIT:
        # Looked up by hash: how long the comparison takes tells nothing about the token.
        found = connection.execute(_WITH_OWNER.where(tokens.c.hash == hashed(text))).one_or_none()
    over = found is None or found.revoked is not None or (found.expires is not None and found.expires <= now)
    if found is None or over or found.kind != kind or found.owner_disabled is not None:
        raise Unauthorised("this token does not hold", element=f"{kind} token", remedy="ask an operator for a new one")
    return found


def make() -> str:
    """A new token, which exists nowhere else."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(given: str) -> str | None:
    """What the database may hold of a token; None where it cannot be one."""
    return hashed(given) if given.startswith(PREFIX) and len(given) <= _LIMIT else None


def hashed(text: str) -> str:
    """What the database holds of a token or session."""
    return hashlib.sha256(text.encode()).hexdigest()


def hidden(text: str) -> str:
    """Foreign words, as a path or a name, without the tokens in them: for what is kept and read by others."""
    return _TEXT.sub(r"\1...", text)
