"""The devices that a module version is ordered to, as the server tells of them."""

from typing import Any, Final

import msgspec

from fleet.client.api import Fleet
from modules.names import ModuleRef

_PAGE: Final = 1000


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A device that a module is ordered to, in which slots."""

    device: str
    online: bool
    slots: tuple[str, ...]


def ask(fleet: Fleet, ref: ModuleRef) -> list[Place]:
    """All of them, by id."""
    found: list[Place] = []
    asked: dict[str, Any] = {"limit": _PAGE}
    path = f"/api/v1/modules/{ref.team}/{ref.name}/{ref.version}/devices"
    while some := fleet.ask(list[Place], "GET", path, params=asked):
        found += some
        asked["after"] = some[-1].device
    return found
