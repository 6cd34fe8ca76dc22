"""The roles of the trust metadata as data: what each is called, how long it lives, how large it may be, what it covers.

Both sides read this table: the publisher and the fleet server when they write metadata, the device when it checks it.
Who holds which key, and why the lives differ, stands in SECURITY.md.
"""

import hashlib
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

# A team's role lists this many releases itself; beyond that they stand in bins below it (modules/trust/bins.py).
MOST_IN_ONE_ROLE: Final = 2000
BIN_BITS: Final = 8
_BIN: Final = re.compile(r"bins-(.+)-[0-9a-f]{2}")
# A bin holds for as long as its team's role does, which names it and expires: so the role alone is renewed.
_BIN_LIFE: Final = timedelta(days=3650)
# One block on the way to a device. A release is about 140 bytes, so a team has room for some 80 000.
BIN_LIMIT: Final = 64 * 1024

_LIMIT: Final = {ROOT: 64 * 1024, TARGETS: 1 << 20, SNAPSHOT: 256 * 1024, TIMESTAMP: 8 * 1024}
TARGETS_LIMIT: Final = _LIMIT[TARGETS]


def team_role(team: Slug) -> str:
    """The role that a publishing team signs; no team can be called like a top-level role."""
    return _TEAM + team


def team_paths(team: Slug) -> list[str]:
    """What a team's role may sign; ``*`` does not cross a slash."""
    return [f"modules/{team}/*/*", f"floors/{team}/*"]


def bins_prefix(team: Slug) -> str:
    """How the names of a team's bins begin. No team's role begins so, and the last two digits say where it ends."""
    return f"bins-{team}"


def bins(team: Slug) -> tuple[str, ...]:
    """All of a team's bins, in order."""
    return tuple(f"{bins_prefix(team)}-{number:02x}" for number in range(1 << BIN_BITS))


def bin_of(team: Slug, path: str) -> str:
    """The bin that alone may list a path: the first byte of its sha256, as TAP 15 has it."""
    return f"{bins_prefix(team)}-{hashlib.sha256(path.encode()).hexdigest()[:2]}"


def is_bin(role: str) -> bool:
    return _BIN.fullmatch(role) is not None


def team_of(role: str) -> Slug | None:
    """Whose role or bin this is; None of a top-level role, and of what no role is called."""
    if found := _BIN.fullmatch(role):
        return slug(found[1], what="team")
    return slug(role.removeprefix(_TEAM), what="team") if role.startswith(_TEAM) else None


def life(role: str) -> timedelta:
    """From signing to expiry."""
    return _LIFE.get(role, _BIN_LIFE if is_bin(role) else _TEAM_LIFE)


def limit(role: str) -> int:
    """The largest metadata file of this role, in bytes."""
    return _LIMIT.get(role, BIN_LIMIT if is_bin(role) else TARGETS_LIMIT)


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
