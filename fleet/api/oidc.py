"""Logging in at an identity provider, where the settings name one."""

import hmac
import http
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from fleet import events
from fleet.api.document import answers
from fleet.api.session import keep
from fleet.auth import public
from fleet.people import operators, sessions
from fleet.people.identify import csrf_of
from fleet.people.oidc import Attempt, Provider
from fleet.refusals import Missing, Unauthorised
from fleet.services import Services, Use, address
from modules.errors import EdgefleetError

router = APIRouter(prefix="/api/v1/oidc")
COOKIE: Final = "__Host-edgefleet-oidc"
# How long somebody may take to log in there.
_LIFE_S: Final = 600


# Public: whoever is not known yet begins here.
@router.get("/login", dependencies=[Depends(public)], **answers(code=http.HTTPStatus.SEE_OTHER))
def leave(use: Use) -> Response:
    attempt = Attempt.new()
    answer = RedirectResponse(_provider(use).leave(attempt), status_code=http.HTTPStatus.SEE_OTHER)
    kept = f"{attempt.state}.{attempt.nonce}.{attempt.verifier}"
    # Lax: the provider's page is another site, and sends the browser back here.
    answer.set_cookie(COOKIE, kept, max_age=_LIFE_S, path="/", secure=True, httponly=True, samesite="lax")
    return answer


# Public: the provider's code is what lets an operator in.
@router.get("/callback", dependencies=[Depends(public)])
def come_back(
    request: Request,
    response: Response,
    use: Use,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
) -> dict[str, Any]:
    provider, now = _provider(use), use.clock()
    request.state.audited = request.state.told = True
    # Nobody has a name yet: whoever fails makes their own address wait, and no other.
    unnamed = f"at {address(request)}"
    use.back_off.check(unnamed, address(request), now)
    try:
        attempt = _attempt(request, state)
        person = provider.person(code, attempt)
        with use.database.write() as connection:
            row = operators.known_to_provider(connection, now, person.name, person.subject, person.grants)
            text = sessions.begin(connection, now, row.id, life_s=use.settings.session_life_s)
            operators.logged_in(connection, now, row)
    except EdgefleetError as error:
        use.back_off.failed(unnamed, address(request), now)
        if use.told.allows(f"login {address(request)}", now):
            with use.database.write() as connection:
                said = f"at the identity provider, from {address(request)}: {error.message} [{error.code}]"
                events.record(connection, now, "login-refused", said)
        raise
    request.state.by = row.name
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="lax")
    keep(response, text, use.settings.session_life_s)
    return {"name": row.name, "csrf": csrf_of(text)}


def _provider(use: Services) -> Provider:
    if use.oidc is None:
        raise Missing("no identity provider is set", element="oidc_issuer", remedy="log in with name and password")
    return use.oidc


def _attempt(request: Request, state: str) -> Attempt:
    """What this browser left with.

    Raises:
        Unauthorised: it did not leave from here, or comes back with another's answer.
    """
    parts = request.cookies.get(COOKIE, "").split(".")
    if len(parts) != 3 or not hmac.compare_digest(parts[0].encode(), state.encode()):  # noqa: PLR2004 - as above
        raise Unauthorised("this log-in did not begin here", element="login", remedy="begin again")
    return Attempt(*parts)
