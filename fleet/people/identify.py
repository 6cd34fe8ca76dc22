"""From what a request brought to who it is: a token in ``Authorization``, or the cookie of a session."""

import hashlib
import hmac
from typing import Annotated, Any, Final

from fastapi import Header, Request
from sqlalchemy import Row, update

from fleet import tokens
from fleet.people import roles, sessions
from fleet.people.last_uses import USED_EVERY_S
from fleet.people.principal import NAME_LIMIT, Principal
from fleet.people.roles import Grant
from fleet.refusals import Forbidden, Unauthorised
from fleet.services import Services, address
from fleet.tables import tokens as token_rows

COOKIE: Final = "__Host-edgefleet"
CSRF: Final = "X-Edgefleet-Csrf"
# A page that asks by itself says so with this header: nobody used the session.
UNATTENDED: Final = "X-Edgefleet-Unattended"
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CHANGE_FIRST: Final = "the password that was given to you has to be changed first"

Authorization = Annotated[str | None, Header()]


def principal_of(request: Request, use: Services, authorization: str | None) -> Principal:
    """Who asks.

    Raises:
        Unauthorised: nothing came with the request, or what came does not hold.
        Forbidden: a browser's request that would change something, without the session's own header.
        TooMany: this address had failed too often before.
    """
    scheme, _, token = (authorization or "").partition(" ")
    cookie = request.cookies.get(COOKIE, "")
    if scheme.lower() == "bearer" and token:
        who = _by_token(request, use, token.strip())
    elif cookie:
        who = _by_session(request, use, cookie)
    else:
        raise Unauthorised("no token came with the request", remedy="send Authorization: Bearer <token>")
    request.state.principal = who  # before anything else is refused: the audit log names whoever is denied
    if who.session:
        _check_page(request, cookie)
    return who


def csrf_of(session: str) -> str:
    """What the header of changing requests must say: who can read it has the session's cookie, or its page's answer."""
    return hashlib.sha256(b"csrf " + session.encode()).hexdigest()


def _by_token(request: Request, use: Services, text: str) -> Principal:
    now = use.clock()
    try:
        with use.database.read() as connection:
            row = tokens.holder(connection, now, text, kind="api")
    except Unauthorised:
        # Only here: whoever brings a token that holds is not kept out by others behind the same address.
        use.attempts.failed(address(request), now)
        raise
    if use.last_uses.due(row.id, now, row.last_used):
        with use.mishaps.alone("last use of a token", f"token {row.id}"), use.database.write() as connection:
            connection.execute(update(token_rows).where(token_rows.c.id == row.id).values(last_used=now))
    return of_token(row)


def of_token(row: Row[Any]) -> Principal:
    """Who a token's row stands for: what both its own roles and its operator's grant."""
    own = roles.read(row.roles) if row.roles is not None else (Grant(row.role),)
    if row.operator is None:
        name = f"token {row.id} ({row.name or row.role})"
        rights: tuple[roles.Grants, ...] = (own,)
    else:
        name = f"{row.owner_name} (token {row.name or row.id})"
        rights = (own, roles.read(row.owner_roles))
    return Principal(
        name=name[:NAME_LIMIT],
        kind="token",
        rights=rights,
        operator=row.operator,
        token=row.id,
        expires=row.expires,
        blocked=CHANGE_FIRST if row.owner_must_change else "",
    )


def _by_session(request: Request, use: Services, cookie: str) -> Principal:
    now = use.clock()
    try:
        with use.database.read() as connection:
            row = sessions.holder(connection, now, cookie, idle_s=use.settings.session_idle_s)
    except Unauthorised:
        use.attempts.failed(address(request), now)
        raise
    if now - row.seen >= USED_EVERY_S and UNATTENDED not in request.headers:
        with use.mishaps.alone("last use of a session", row.name), use.database.write() as connection:
            sessions.seen(connection, now, row.hash)
    return Principal(
        name=str(row.name),
        kind="operator",
        rights=(roles.read(row.roles),),
        operator=row.operator,
        session=row.hash,
        expires=row.ends,
        blocked=CHANGE_FIRST if row.must_change else "",
    )


def _check_page(request: Request, cookie: str) -> None:
    if request.method in _READING:
        return
    sent = request.headers.get(CSRF, "").encode()
    if not hmac.compare_digest(sent, csrf_of(cookie).encode()):
        raise Forbidden(
            "a page's request that changes something must say that the page made it",
            element=CSRF,
            remedy="send the value of csrf, which the log-in and GET /api/v1/session answer",
        )
