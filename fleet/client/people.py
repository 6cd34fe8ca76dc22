"""Operators and tokens over the server's API: what is asked and what comes back, and logging in with a password."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fleet.client.api import Fleet
from modules.errors import BadSettings

_V1: Final = "/api/v1"
_COOKIE: Final = "__Host-edgefleet"
_CSRF: Final = "X-Edgefleet-Csrf"


class Role(msgspec.Struct, frozen=True):
    """A role, and what it is bounded to."""

    role: str
    selector: str = "*"
    teams: tuple[str, ...] | None = None

    def __str__(self) -> str:
        bounds = [self.selector] if self.selector != "*" else []
        bounds += [] if self.teams is None else [f"teams {', '.join(self.teams)}"]
        return self.role + (f" ({'; '.join(bounds)})" if bounds else "")


class Operator(msgspec.Struct, frozen=True):
    """An operator; ``password_once`` is there where the server has just made one."""

    name: str
    roles: tuple[Role, ...]
    created: float
    disabled: float | None = None
    last_login: float | None = None
    must_change_password: bool = False
    password: bool = True
    password_once: str = ""


class Token(msgspec.Struct, frozen=True):
    """A token as it is listed; its text is nowhere."""

    id: int
    name: str
    operator: str | None
    roles: tuple[Role, ...]
    created: float
    expires: float | None = None
    last_used: float | None = None
    revoked: float | None = None


class NewToken(msgspec.Struct, frozen=True):
    """A token that was just made, with its text."""

    id: int
    name: str
    token: str


class Myself(msgspec.Struct, frozen=True):
    """Whoever asks."""

    name: str
    kind: str
    permissions: tuple[str, ...]


class _Entered(msgspec.Struct, frozen=True):
    name: str
    csrf: str
    must_change_password: bool


class _Reset(msgspec.Struct, frozen=True):
    name: str
    password_once: str


def myself(fleet: Fleet) -> Myself:
    return fleet.ask(Myself, "GET", f"{_V1}/session")


def operators(fleet: Fleet) -> list[Operator]:
    return fleet.ask(list[Operator], "GET", f"{_V1}/operators")


def add_operator(fleet: Fleet, name: str, roles: Sequence[Role], *, password: bool) -> Operator:
    document = {"name": name, "roles": msgspec.to_builtins(roles), "password": password}
    return fleet.ask(Operator, "POST", f"{_V1}/operators", json=document)


def set_roles(fleet: Fleet, name: str, roles: Sequence[Role]) -> Operator:
    """These roles, and no others."""
    return fleet.ask(Operator, "PATCH", f"{_V1}/operators/{name}", json={"roles": msgspec.to_builtins(roles)})


def disable(fleet: Fleet, name: str, *, disabled: bool) -> Operator:
    return fleet.ask(Operator, "PATCH", f"{_V1}/operators/{name}", json={"disabled": disabled})


def reset_password(fleet: Fleet, name: str) -> str:
    """A new random password of somebody's, which has to be changed first."""
    return fleet.ask(_Reset, "POST", f"{_V1}/operators/{name}/password").password_once


def tokens(fleet: Fleet, **more: Any) -> list[Token]:
    return fleet.ask(list[Token], "GET", f"{_V1}/tokens", **more)


def make_token(fleet: Fleet, name: str, roles: Sequence[Role] | None, expires_s: int | None, **more: Any) -> NewToken:
    """One more token of whoever asks; without ``roles`` it may do what they may."""
    given = None if roles is None else msgspec.to_builtins(roles)
    document = {"name": name, "roles": given, "expires_s": expires_s}
    return fleet.ask(NewToken, "POST", f"{_V1}/tokens", json=document, **more)


def revoke_token(fleet: Fleet, named: str, **more: Any) -> list[int]:
    """By number, or by name; the numbers of all that went."""
    return fleet.ask(dict[str, list[int]], "DELETE", f"{_V1}/tokens/{named}", **more)["revoked"]


class Session:
    """One log-in with a password; its requests say what a browser's would."""

    def __init__(self, fleet: Fleet, entered: _Entered, cookie: str) -> None:
        self._fleet = fleet
        self.name, self.must_change_password = entered.name, entered.must_change_password
        self._headers = {"Cookie": f"{_COOKIE}={cookie}", _CSRF: entered.csrf}

    def change_password(self, old: str, new: str) -> None:
        """Every session ends with it, this one too."""
        path, document = f"{_V1}/session/password", {"old": old, "new": new}
        self._fleet.ask(dict[str, str], "PUT", path, headers=self._headers, json=document)

    def personal_token(self, name: str) -> NewToken:
        """A token of this name, in the place of one that this operator may have."""
        for one in tokens(self._fleet, headers=self._headers):
            if one.name == name and one.operator == self.name and one.revoked is None:
                revoke_token(self._fleet, str(one.id), headers=self._headers)
        return make_token(self._fleet, name, None, None, headers=self._headers)

    def end(self) -> None:
        self._fleet.ask(dict[str, str], "DELETE", f"{_V1}/session", headers=self._headers)


def enter(fleet: Fleet, user: str, password: str) -> Session:
    """Log in.

    Raises:
        BadSettings: the server does not know this name with this password.
    """
    document = {"user": user, "password": password}
    entered, cookies = fleet.ask_with_cookies(_Entered, "POST", f"{_V1}/session", json=document)
    if _COOKIE not in cookies:
        raise BadSettings("the server gave no session", element=fleet.url, remedy="see that it is a fleet server")
    return Session(fleet, entered, cookies[_COOKIE])
