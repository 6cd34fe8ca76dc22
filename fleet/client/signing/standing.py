"""How each role stands: its keys, its threshold, its version, how long it holds, and where its keys should be."""

from datetime import datetime
from typing import Any, Final

import msgspec
from tuf.api.metadata import Metadata

from fleet.client.signing import ceremony
from fleet.client.signing.trusted import Present
from modules.trust import roles

_OFFLINE: Final = "offline, each with another holder"
_SERVER: Final = "on the fleet server"
_WHERE: Final = {
    roles.ROOT: _OFFLINE,
    roles.TARGETS: "offline, with the owner",
    roles.SNAPSHOT: _SERVER,
    roles.TIMESTAMP: _SERVER,
    ceremony.DIRECTOR: _SERVER,
}
_OF_A_TEAM: Final = "with the team: its machine, its CI, or a key service"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One role. ``state`` is ``ok``, ``due`` (half of its life is over) or ``expired``; ``expires`` in Unix seconds.

    The director signs orders, each with a life of its own, so its list has none. ``staged`` is a key that was made on
    the server and waits until it is named.
    """

    role: str
    keys: tuple[str, ...]
    threshold: int
    where: str
    state: str = "ok"
    version: int | None = None
    expires: float | None = None
    days_left: int | None = None
    staged: str | None = None


def standings(present: Present, staged: dict[str, Any], now: datetime) -> list[Standing]:
    """Every role, root first, then the teams by name."""
    files = {
        roles.ROOT: present.root,
        roles.TARGETS: present.targets,
        roles.SNAPSHOT: present.snapshot,
        roles.TIMESTAMP: present.timestamp,
    }
    found = [_standing(present, role, data, staged, now) for role, data in files.items()]
    found.append(
        Standing(
            role=ceremony.DIRECTOR,
            keys=tuple(ceremony.keys_of(present, ceremony.DIRECTOR)),
            threshold=1,
            where=_SERVER,
            staged=_waiting(staged, ceremony.DIRECTOR),
        )
    )
    return found + [
        _standing(present, roles.team_role(team), present.teams[team], {}, now) for team in sorted(present.teams)
    ]


def _standing(present: Present, role: str, data: bytes, staged: dict[str, Any], now: datetime) -> Standing:
    signed = Metadata.from_bytes(data).signed
    left = signed.expires - now
    online = role in {roles.SNAPSHOT, roles.TIMESTAMP}
    due = left <= roles.life(role) / 2 and not online
    return Standing(
        role=role,
        keys=tuple(ceremony.keys_of(present, role)),
        threshold=ceremony.threshold_of(present, role),
        where=_WHERE.get(role, _OF_A_TEAM),
        state="expired" if left.total_seconds() <= 0 else "due" if due else "ok",
        version=signed.version,
        expires=signed.expires.timestamp(),
        days_left=left.days,
        staged=_waiting(staged, role),
    )


def _waiting(staged: dict[str, Any], role: str) -> str | None:
    entry = staged.get(role)
    return str(entry.get("keyid")) if isinstance(entry, dict) else None
