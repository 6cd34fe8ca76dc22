"""Who may do what: one dependency on every route, ``need("rollout:write")`` or ``public``; a test walks the routes.

Permissions are ``resource:verb``. A role is a set of them; what no role grants is refused.
"""

from typing import Annotated, Final

from fastapi import Depends, Header, Request

from fleet import tokens
from fleet.refusals import Forbidden, Unauthorised
from fleet.services import Use, address

PERMISSIONS: Final = frozenset(
    {
        "audit:read",
        "blob:read",
        "blob:write",
        "command:read",
        "command:write",
        "device:approve",
        "device:enrol",
        "device:read",
        "device:write",
        "event:read",
        "fleet:export",
        "log:read",
        "metrics:read",
        "module:read",
        "module:write",
        "rollout:read",
        "rollout:write",
        "secret:read",
        "secret:write",
        "trust:read",
        "trust:write",
    }
)
ROLES: Final[dict[str, frozenset[str]]] = {
    "admin": PERMISSIONS,
    # Reads all that an export holds, and changes nothing.
    "analyst": frozenset({"fleet:export"}),
    # What Prometheus is given.
    "metrics": frozenset({"metrics:read"}),
}


class Need:
    """A dependency that lets a request through if its token's role has the permission."""

    def __init__(self, permission: str) -> None:
        self.permission = permission

    def __call__(self, request: Request, use: Use, authorization: Annotated[str | None, Header()] = None) -> None:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorised("no token came with the request", remedy="send Authorization: Bearer <token>")
        try:
            with use.database.read() as connection:
                role, principal = tokens.holder(connection, use.clock(), token.strip(), kind="api")
        except Unauthorised:
            # Only here: whoever brings a token that holds is not kept out by others behind the same address.
            use.attempts.failed(address(request), use.clock())
            raise
        request.state.principal = principal  # first: the audit log names whoever is denied
        if self.permission not in ROLES.get(role, ()):
            raise Forbidden(f"the role {role} may not do this", element=self.permission)


class NeedUnlessOpen(Need):
    """The same, unless the setting ``open_metrics`` lets everybody read the metrics."""

    def __call__(self, request: Request, use: Use, authorization: Annotated[str | None, Header()] = None) -> None:
        if not use.settings.open_metrics:
            super().__call__(request, use, authorization)


def need(permission: str) -> Need:
    """The dependency for one permission.

    Raises:
        ValueError: no such permission, at import, so that a typing error never reaches a server.
    """
    return Need(_known(permission))


def need_for_metrics(permission: str) -> Need:
    """As :func:`need`, where a setting may open the route to everybody."""
    return NeedUnlessOpen(_known(permission))


def _known(permission: str) -> str:
    if permission not in PERMISSIONS:
        raise ValueError(permission)
    return permission


def principal(request: Request) -> str:
    """Who asks, for the history: set by the route's own ``need``."""
    return str(request.state.principal)


By = Annotated[str, Depends(principal)]


def public() -> None:
    """Marks a route that needs no token; the route says why."""
