"""The roles of the trust metadata as data: what each is called, how long it lives, how large it may be, what it covers.

Both sides read this table: the publisher and the fleet server when they write metadata, the device when it checks it.
Who holds which key, and why the lives differ, stands in SECURITY.md.
"""

import re
from datetime import timedelta
from typing import Final

from modules.errors import Invalid
from modules.names import ModuleRef, Slug, Version, slug

ROOT: Final = "root"
TARGETS: Final = "targets"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"
TOP_LEVEL: Final = (ROOT, TIMESTAMP, SNAPSHOT, TARGETS)

DIRECTOR_PATH: Final = "trust/director.json"

_TEAM: Final = "team-"
_LIFE: Final = {
    ROOT: timedelta(days=365),
    TARGETS: timedelta(days=180),
    SNAPSHOT: timedelta(days=30),
    TIMESTAMP: timedelta(days=14),
}
_TEAM_LIFE: Final = timedelta(days=180)

# A module is about 170 bytes of its team's role, so 1 MiB holds some 6 000; beyond 2 000 hash bins are due anyway.
_LIMIT: Final = {ROOT: 64 * 1024, TARGETS: 1 << 20, SNAPSHOT: 256 * 1024, TIMESTAMP: 8 * 1024}
TARGETS_LIMIT: Final = _LIMIT[TARGETS]


def team_role(team: Slug) -> str:
    """The role that a publishing team signs; no team can be called like a top-level role."""
    return _TEAM + team


def team_paths(team: Slug) -> list[str]:
    """What a team's role may sign; ``*`` does not cross a slash."""
    return [f"modules/{team}/*/*", f"floors/{team}/*"]


def life(role: str) -> timedelta:
    """From signing to expiry."""
    return _LIFE.get(role, _TEAM_LIFE)


def limit(role: str) -> int:
    """The largest metadata file of this role, in bytes."""
    return _LIMIT.get(role, TARGETS_LIMIT)


def file_name(role: str, version: int) -> str:
    """The name under which a version is published: all but the timestamp carry their version."""
    return "timestamp.json" if role == TIMESTAMP else f"{version}.{role}.json"


def floor_path(team: Slug, name: Slug) -> str:
    """The target that holds the lowest version of a module that may still run."""
    return f"floors/{team}/{name}.json"


def is_floor(path: str) -> bool:
    return path.startswith("floors/")


def floor_version(path: str, custom: object) -> Version:
    """The version in a floor's entry; ``custom`` is what stands beside its length and hash.

    Raises:
        Invalid: there is none.
    """
    minimum = custom.get("minimum") if isinstance(custom, dict) else None
    if not isinstance(minimum, str):
        raise Invalid("the floor has no minimum version", element=path, remedy="sign the floor again")
    return Version.parse(minimum)


def check_team_path(team: Slug, path: str) -> None:
    """Accept a path that this team's role may list: a module's manifest or a module's floor.

    Raises:
        Invalid: another team's, or neither of the two.
    """
    if floor := re.fullmatch(r"floors/([^/]+)/([^/]+)\.json", path):
        owner = slug(floor[1], what="team")
        slug(floor[2], what="module name")
    else:
        owner = ModuleRef.from_target(path).team
    if owner != team:
        raise Invalid(
            f"team {team} cannot sign for team {owner}", element=path, remedy=f"sign it with a key of {owner}"
        )
