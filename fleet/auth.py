"""Who may do what: one dependency on every route, ``need("rollout:write")``, ``own`` or ``public``; tests walk them.

What a right is bounded to (fleet/people/scope.py) is looked at here for whatever a path names, a device, a rollout or a
team, so that no route can forget it; what a route lists is bounded by the queries themselves, which get :data:`In`.
"""

from typing import Annotated

from fastapi import Depends, Request

from fleet.people.identify import Authorization, principal_of
from fleet.people.principal import Principal
from fleet.people.reach import check_path
from fleet.people.roles import PERMISSIONS
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Forbidden
from fleet.services import Use


class Need:
    """A dependency that lets a request through if whoever asks has the permission, for what the path names."""

    def __init__(self, permission: str) -> None:
        self.permission = permission

    def __call__(self, request: Request, use: Use, authorization: Authorization = None) -> None:
        who = principal_of(request, use, authorization)
        scope = who.scope(self.permission)
        if who.blocked or not scope.areas:
            raise _denied(who, self.permission)
        if not scope.unlimited:
            with use.database.read() as connection:
                check_path(connection, scope, request.path_params, changes=request.method not in {"GET", "HEAD"})
        request.state.scope = scope


class NeedUnlessOpen(Need):
    """The same, unless the setting ``open_metrics`` lets everybody read the metrics."""

    def __call__(self, request: Request, use: Use, authorization: Authorization = None) -> None:
        if use.settings.open_metrics:
            request.state.scope = EVERYTHING
        else:
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


def own(request: Request, use: Use, authorization: Authorization = None) -> None:
    """Marks a route that is about whoever asks, and so is for everybody whom the server knows."""
    principal_of(request, use, authorization)


async def public() -> None:
    """Marks a route that needs no token; the route says why."""


async def asker(request: Request) -> Principal:
    """Who asks: found by the route's own ``need`` or ``own``."""
    found: Principal = request.state.principal
    return found


async def principal(request: Request) -> str:
    """Who asks, for the history."""
    return (await asker(request)).name


def scope_of(request: Request) -> Scope:
    """Where the permission of the route holds for whoever asks."""
    found: Scope = request.state.scope
    return found


async def _scope(request: Request) -> Scope:
    return scope_of(request)


By = Annotated[str, Depends(principal)]
Asker = Annotated[Principal, Depends(asker)]
In = Annotated[Scope, Depends(_scope)]


def _denied(who: Principal, permission: str) -> Forbidden:
    """The refusal; it becomes a row of the audit log and an event in fleet/audit/middleware.py, as each one does."""
    remedy = "PUT /api/v1/session/password, or: edgefleet login URL --user NAME" if who.blocked else ""
    return Forbidden(who.blocked or f"{_roles(who)} may not do this", element=permission, remedy=remedy)


def _roles(who: Principal) -> str:
    names = who.roles
    return f"the role{'s' if len(names) > 1 else ''} {', '.join(names)}"
