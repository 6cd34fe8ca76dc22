"""Permissions are ``resource:verb``, a role is a set of them, and what no role grants is refused."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from fleet import selectors
from fleet.people.scope import Area
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, Invalid
from modules.names import slug

PERMISSIONS: Final = frozenset(
    {
        "audit:read",
        "batch:log",
        "batch:read",
        "batch:write",
        "blob:read",
        "blob:write",
        "command:read",
        "command:write",
        "device:approve",
        "device:enrol",
        "device:read",
        "device:try",
        "device:write",
        "endpoint:key",
        "endpoint:log",
        "endpoint:read",
        "endpoint:try",
        "endpoint:write",
        "event:read",
        "fallback:read",
        "fallback:write",
        "fleet:export",
        "group:write",
        "log:read",
        "metrics:read",
        "module:read",
        "module:write",
        "rollout:approve",
        "rollout:read",
        "rollout:write",
        "secret:read",
        "secret:write",
        "setting:read",
        "setting:write",
        "target:read",
        "target:write",
        "token:read",
        "token:write",
        "trust:read",
        "trust:write",
        "user:read",
        "user:write",
    }
)
# What is about the whole fleet: a role that is given with a scope does not grant it.
WHOLE_FLEET: Final = frozenset(
    {"audit:read", "setting:read", "setting:write", "target:write", "trust:write", "user:read", "user:write"}
)
# A secret belongs to a slot, which any team's module may fill: a role that is given for some teams does not grant it.
NO_TEAMS: Final = frozenset({"secret:read", "secret:write"})
# An endpoint is no device, nor is a batch job: a role that is given for some devices does not grant it.
NO_DEVICES: Final = frozenset(
    {
        *("batch:log", "batch:read", "batch:write"),
        *("endpoint:key", "endpoint:log", "endpoint:read", "endpoint:try", "endpoint:write", "target:read"),
    }
)
_OWN_TOKENS: Final = frozenset({"token:read", "token:write"})
_VIEWER: Final = _OWN_TOKENS | {
    *("batch:read", "command:read", "device:read", "endpoint:read", "event:read", "fallback:read", "module:read"),
    *("rollout:read", "target:read", "trust:read"),
}
ROLES: Final[dict[str, frozenset[str]]] = {
    "admin": PERMISSIONS,
    # Reads all that an export holds, and changes nothing.
    "analyst": frozenset({"fleet:export"}),
    "approver": _VIEWER | {"rollout:approve"},
    "installer": _VIEWER | {"device:approve", "device:enrol", "device:write"},
    # What Prometheus is given.
    "metrics": frozenset({"metrics:read"}),
    "operator": _VIEWER
    | {"batch:log", "command:write", "device:try", "endpoint:log", "endpoint:try", "group:write", "log:read"},
    "releaser": _OWN_TOKENS | {"blob:read", "blob:write", "module:read", "module:write", "trust:read"},
    "rollout-manager": _VIEWER
    | {"batch:log", "batch:write", "endpoint:key", "endpoint:log", "endpoint:try", "endpoint:write", "fallback:write"}
    | {"rollout:write"},
    "viewer": _VIEWER,
}
MOST: Final = 20
MOST_TEAMS: Final = 50


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """A role, and where it holds: for the devices that ``selector`` means, and the modules of ``teams``.

    Without ``teams`` for the modules of every team.
    """

    role: str
    selector: str = "*"
    teams: tuple[str, ...] | None = None

    @property
    def area(self) -> Area:
        return _area(self.selector, self.teams)

    def permits(self, permission: str) -> bool:
        """Whether it grants a permission, at least somewhere."""
        beyond = permission in WHOLE_FLEET and not self.area.unlimited
        beyond = beyond or (permission in NO_TEAMS and self.teams is not None)
        beyond = beyond or (permission in NO_DEVICES and bool(self.area.selector.terms))
        return permission in ROLES.get(self.role, ()) and not beyond


# Of every request the same few are read again.
@lru_cache(1024)
def _area(selector: str, teams: tuple[str, ...] | None) -> Area:
    return Area(selectors.parse(selector), None if teams is None else frozenset(teams))


Grants = tuple[Grant, ...]


def check(given: Iterable[Grant]) -> Grants:
    """Roles as somebody may be given them, each once.

    Raises:
        Invalid: a role or team that does not exist or is no name, no role at all, or a selector that is unreadable or
            asks for what a device says of itself.
    """
    found = tuple(dict.fromkeys(given))
    if not 1 <= len(found) <= MOST:
        raise Invalid(f"there are no roles, or more than {MOST}", element="roles", remedy=_listed())
    for one in found:
        if one.role not in ROLES:
            raise Invalid(f"there is no role {one.role[:40]!r}", element="roles", remedy=_listed())
        if one.teams is not None and not 1 <= len(one.teams) <= MOST_TEAMS:
            raise Invalid(f"there are no teams, or more than {MOST_TEAMS}", element="teams", remedy="leave them out")
        for team in one.teams or ():
            slug(team, what="team")
        one.area.check()
    return found


def read(stored: object) -> Grants:
    """Roles as a row holds them."""
    return msgspec.convert(stored, Grants)


def read_mapping(text: str) -> dict[str, Grants]:
    """Roles by the values of a provider's claim, as the setting ``oidc_roles`` has them.

    Raises:
        BadSettings: it is no such JSON, or a role or bound in it is none.
    """
    try:
        found = msgspec.json.decode(text, type=dict[str, Grants])
        return {value: check(grants) for value, grants in found.items()}
    except (*UNREADABLE, Invalid) as error:
        raise BadSettings(
            f"it cannot be read: {error}", element="oidc_roles", remedy='write {"group": [{"role": "operator"}]}'
        ) from error


def plain(grants: Grants) -> list[dict[str, object]]:
    """Roles as a row and an answer hold them."""
    found: list[dict[str, object]] = msgspec.to_builtins(grants)
    return found


def words(grants: Grants) -> str:
    """Roles in one line, for the history: ``operator (site=berlin), viewer``."""
    return ", ".join(one.role + ("" if one.area.unlimited else f" ({one.area})") for one in grants)


def _listed() -> str:
    return f"name some of {', '.join(sorted(ROLES))}"
