"""How each role of the fleet's trust stands, as this server holds it: its keys, how many must sign, until when.

The server shows what it was given and signs itself; ``edgefleet keys status`` verifies it from the root that its user
pinned, and is what an owner believes.
"""

import datetime as dt
from collections.abc import Collection
from typing import Any, Final

import msgspec
from sqlalchemy import Connection
from tuf.api.metadata import Metadata as Envelope
from tuf.api.metadata import Root

from fleet import metadata_files
from fleet.metadata import Metadata
from fleet.people.scope import EVERYTHING, Scope
from modules.trust import roles

_DIRECTOR: Final = "director"
_ONLINE: Final = (roles.SNAPSHOT, roles.TIMESTAMP)
_HALF: Final = 0.5


class RoleStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One role; ``expires`` in Unix seconds, None for the director, each of whose orders ends by itself.

    ``state`` is *ok*, *due* (offline keys should sign again: half of the life is over), *expired*, or *foreign*: the
    owner names none of the keys that this server signs with. ``here`` are the ids of this server's own keys among
    ``keys``, ``staged`` one that waits until the owner names it.
    """

    role: str
    keys: tuple[str, ...]
    threshold: int
    held_by: str
    state: str
    version: int | None = None
    expires: float | None = None
    here: tuple[str, ...] = ()
    staged: str = ""


def standings(connection: Connection, metadata: Metadata, now: float, scope: Scope = EVERYTHING) -> list[RoleStanding]:
    """Every role: root first, then the teams of a scope by name. None where the fleet has no root of trust yet."""
    data = metadata_files.read(connection, roles.ROOT)
    targets = metadata_files.read(connection, roles.TARGETS)
    if data is None or targets is None:
        return []
    own = {role: str(key["keyid"]) for role, key in metadata.online_keys().items()}
    waits = {role: str(key["keyid"]) for role, key in metadata.staged_keys().items()}
    named = Envelope[Root].from_bytes(data).signed.roles
    found = []
    for role in (roles.ROOT, roles.TARGETS, *_ONLINE):
        keys, least = sorted(named[role].keyids), named[role].threshold
        found.append(_standing(connection, role, keys, least, now, own=own.get(role), staged=waits.get(role, "")))
    directors = sorted(metadata.directors(connection))
    here = tuple(one for one in directors if one == own.get(_DIRECTOR))
    found.append(
        RoleStanding(
            role=_DIRECTOR,
            keys=tuple(directors),
            threshold=1,
            held_by="this server",
            state="ok" if here else "foreign",
            here=here,
            staged=waits.get(_DIRECTOR, ""),
        )
    )
    listed = metadata_files.listing(targets).delegations
    teams = (listed.roles or {}) if listed else {}
    for name, one in sorted(teams.items()):
        if (team := roles.team_of(name)) is not None and scope.has_team(team):
            found.append(_standing(connection, name, sorted(one.keyids), one.threshold, now))
    return found


def _standing(
    connection: Connection,
    role: str,
    keys: Collection[str],
    threshold: int,
    now: float,
    *,
    own: str | None = None,
    staged: str = "",
) -> RoleStanding:
    online = role in _ONLINE
    data = metadata_files.read(connection, role)
    version = expires = None
    state = "due"  # a team that has signed nothing yet
    if data is not None:
        signed = Envelope[Any].from_bytes(data).signed
        version, expires = int(signed.version), signed.expires.timestamp()
        half = roles.life(role) * _HALF
        due = not online and dt.datetime.fromtimestamp(now, dt.UTC) >= signed.expires - half
        state = "expired" if expires <= now else "due" if due else "ok"
    here = tuple(one for one in keys if one == own)
    if online and not here:
        state = "foreign"
    owner = "the team" if roles.team_of(role) is not None else "people, offline"
    return RoleStanding(
        role=role,
        keys=tuple(keys),
        threshold=threshold,
        held_by="this server" if online else owner,
        state=state,
        version=version,
        expires=expires,
        here=here,
        staged=staged,
    )
