"""New metadata of the owner's and the teams', held against what is in force: what of it is new, and may follow."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection
from tuf.api.metadata import Targets

from fleet import metadata_files
from modules.errors import Invalid
from modules.names import Slug
from modules.trust import bins, roles, succession
from modules.trust.team_update import check_team_files


def checked(
    connection: Connection, files: Mapping[str, bytes], director: bytes | None, *, now: datetime, skip: bool
) -> dict[str, bytes]:
    """Those of the files, by role, that are not in force yet; they follow from what is, all together.

    Args:
        connection: what is in force.
        files: what was sent: root, targets, roles of teams, bins.
        director: the list of director keys, where targets names a new one.
        now: the time to hold expiry against.
        skip: whether targets and teams may skip versions.

    Raises:
        Conflict: there is no root yet.
        Invalid: something is not metadata, or changes what must stay.
        Untrusted: something is not signed as it must be, or is not the next version.
    """
    root_now, targets_now = metadata_files.founded(connection)
    new = {role: data for role, data in files.items() if data != metadata_files.read(connection, role)}
    root, targets = new.get(roles.ROOT, root_now), new.get(roles.TARGETS, targets_now)
    teams = _by_team(new)
    if roles.ROOT in new:
        succession.check_root(old=root_now, new=root, now=now)
    if roles.TARGETS in new:
        with_role = [team for team, own in teams.items() if roles.team_role(team) in own]
        succession.check_targets(
            root=root, old=targets_now, new=targets, director=director, teams=with_role, now=now, skip=skip
        )
        _check_others(connection, metadata_files.listing(targets), but=with_role)
    for team, own in teams.items():
        names = {roles.team_role(team), *own}
        old = {name: data for name in names if (data := metadata_files.read(connection, name))}
        check_team_files(root=root, targets=targets, team=team, old=old, new=own, now=now, skip=skip)
    return new


def _check_others(connection: Connection, targets: Targets, *, but: Collection[Slug]) -> None:
    """No team that sends nothing may be left with bins that its keys of now cannot sign: devices would refuse them."""
    for role in metadata_files.versions(connection):
        team = None if roles.is_bin(role) else roles.team_of(role)
        if team is not None and team not in but and (data := metadata_files.read(connection, role)):
            bins.check_delegation(team, metadata_files.listing(data), targets)


def in_words(new: Mapping[str, bytes]) -> str:
    """The changed roles with their versions; of bins how many."""
    said = [f"{role} {metadata_files.version(data)}" for role, data in new.items() if not roles.is_bin(role)]
    count = sum(map(roles.is_bin, new))
    return ", ".join([*said, f"{count} bins"] if count else said)


def _by_team(files: Mapping[str, bytes]) -> dict[Slug, dict[str, bytes]]:
    teams: dict[Slug, dict[str, bytes]] = {}
    for role in sorted(files.keys() - {roles.ROOT, roles.TARGETS}):
        team = roles.team_of(role)
        if team is None:
            raise Invalid("it is neither a team's role nor a bin", element=role[:80], remedy="use: edgefleet keys")
        teams.setdefault(team, {})[role] = files[role]
    return teams
