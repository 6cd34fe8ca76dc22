"""Logging in and out with a name and a password, and who one is."""

import http
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from fleet import events
from fleet.api.bodies import Body
from fleet.api.told import refusals_told
from fleet.auth import Asker, own, public
from fleet.people import operators, passwords, sessions
from fleet.people.identify import COOKIE, csrf_of
from fleet.people.principal import Principal
from fleet.people.reach import permitted
from fleet.people.roles import plain
from fleet.refusals import Conflict, Forbidden, Unauthorised
from fleet.services import Services, Use, address
from modules.errors import EdgefleetError

router = APIRouter(prefix="/api/v1/session")
# More than any password, so that one that is too long is told so.
BODY_LIMIT = 16 << 10
Named = Annotated[str, Query(max_length=100)]


class Login(Body):
    """Who somebody says to be."""

    user: Annotated[str, Field(max_length=100)]
    password: str


class NewPassword(Body):
    """The password that holds, and the one that is to."""

    old: str
    new: str


# Public: name and password are what lets an operator in.
@router.post("", status_code=http.HTTPStatus.CREATED, dependencies=[Depends(public)], max_body_size=BODY_LIMIT)
def log_in(body: Login, request: Request, response: Response, use: Use) -> dict[str, Any]:
    now = use.clock()
    row = _checked(use, body.user, body.password, request)
    fresh = use.passwords.renewed(row.password, body.password)
    with use.database.write() as connection:
        if operators.get(connection, row.name).password != row.password:
            raise Unauthorised("the password was changed meanwhile", element="login", remedy="log in again")
        text = sessions.begin(connection, now, row.id, life_s=use.settings.session_life_s)
        operators.logged_in(connection, now, row, fresh)
    use.back_off.succeeded(body.user)
    request.state.by = row.name  # for the audit log
    keep(response, text, use.settings.session_life_s)
    return {"name": row.name, "csrf": csrf_of(text), "must_change_password": row.must_change}


@router.get("", dependencies=[Depends(own)])
async def who_am_i(request: Request, who: Asker) -> dict[str, Any]:
    """Name, roles and permissions; for a browser also what the header of its changing requests must say."""
    return _shown(who) | ({"csrf": csrf_of(request.cookies[COOKIE])} if who.session else {})


@router.get("/permissions", dependencies=[Depends(own)])
def what_i_may_do(
    use: Use, who: Asker, device: Named = "", rollout: Named = "", team: Named = "", endpoint: Named = ""
) -> list[str]:
    """The permissions that hold for what is named here: fewer than there are at all where roles are bounded."""
    named = {"device": device, "rollout": rollout, "team": team, "endpoint": endpoint}
    with use.database.read() as connection:
        return permitted(connection, who, {name: value for name, value in named.items() if value})


@router.delete("", dependencies=[Depends(own)])
def log_out(response: Response, who: Asker, use: Use) -> dict[str, str]:
    if not who.session:
        raise Conflict("a token has no session", element="session", remedy="edgefleet tokens revoke NAME")
    with use.database.write() as connection:
        sessions.end(connection, who.session)
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict")
    return {"state": "logged out"}


@router.put("/password", dependencies=[Depends(own)], max_body_size=BODY_LIMIT)
def change_password(body: NewPassword, request: Request, who: Asker, use: Use) -> dict[str, str]:
    """Change one's own password; every session of this operator ends, the one that asks too."""
    if who.kind != "operator":
        raise Forbidden("a token changes no password", element="password", remedy="log in with the password")
    row = _checked(use, who.name, body.old, request)
    with refusals_told(use, who.name):
        passwords.check_choice(body.new, who.name)
        if body.new == body.old:
            raise Conflict("the new password is the old one", element="password", remedy="take another one")
    hashed = use.passwords.hashed(body.new)
    with use.database.write() as connection:
        operators.set_password(connection, use.clock(), row, hashed, given=False, by=who.name)
    return {"state": "changed"}


def keep(response: Response, session: str, life_s: int) -> None:
    """Give a session to a browser: for this server alone, out of reach of pages' scripts and of other sites."""
    response.set_cookie(COOKIE, session, max_age=life_s, path="/", secure=True, httponly=True, samesite="strict")
    response.headers["Cache-Control"] = "no-store"


def _shown(who: Principal) -> dict[str, Any]:
    found = {"name": who.name, "kind": who.kind, "roles": [plain(one) for one in who.rights]}
    more = {"permissions": who.permissions, "expires": who.expires, "must_change_password": bool(who.blocked)}
    return found | more


def _checked(use: Services, user: str, password: str, request: Request) -> Any:
    """An operator's row, if this is the password; a failure counts, waits and is an event."""
    now, where = use.clock(), address(request)
    use.back_off.check(user, where, now)
    with use.database.read() as connection:
        row = operators.found(connection, user)
    if row is not None:  # the audit log has no other names: people type their password there
        request.state.about = f" as {row.name}"
    try:
        return operators.checked(row, password, use.passwords)
    except Unauthorised as error:
        use.back_off.failed(user, where, now)
        _tell(use, user, request, error)
        raise
    except EdgefleetError as error:
        _tell(use, user, request, error)
        raise


def _tell(use: Services, user: str, request: Request, error: EdgefleetError) -> None:
    request.state.told, where = True, address(request)
    if use.told.allows(f"login {where}", use.clock()):
        with use.database.write() as connection:
            # People type their password, or a token, where their name belongs.
            named = repr(user) if operators.NAME.fullmatch(user) else "what is no name"
            said = f"{named} from {where}: {error.message} [{error.code}]"
            events.record(connection, use.clock(), "login-refused", said)
