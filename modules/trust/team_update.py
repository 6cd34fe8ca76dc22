"""What the fleet server verifies before it takes a team's new files; devices verify it again where they use it."""

from collections.abc import Mapping
from datetime import datetime

from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from modules import manifest
from modules.errors import Invalid
from modules.names import Slug
from modules.trust import bins, metadata, roles
from modules.trust.repository import check_raised

Files = dict[str, Metadata[Targets]]


def check_team_files(
    *,
    root: bytes,
    targets: bytes,
    team: Slug,
    old: Mapping[str, bytes],
    new: Mapping[str, bytes],
    now: datetime,
    skip: bool = False,
) -> Files:
    """Accept a team's new files, all of them or none.

    Args:
        root: the present root metadata.
        targets: the present top-level targets metadata.
        team: whose files they are.
        old: the team's present role, and those of its present bins that ``new`` replaces; empty at its first.
        new: what was sent, by role.
        now: the time to hold expiry against.
        skip: whether versions may be skipped (:func:`modules.trust.metadata.check_next`).

    Returns:
        The new files, for their targets.

    Raises:
        Untrusted: not signed by enough of the team's keys, expired, or not the version after the present one; or other
            keys may sign its bins than the owner named.
        Invalid: no metadata, a path that is not the team's or belongs into another of its files, a release or floor
            that was published and now is missing, altered or lowered, or a bin that is missing.
    """
    role = roles.team_role(team)
    owner = metadata.read(targets, Targets, roles.TARGETS)
    metadata.verify(metadata.read(root, Root, roles.ROOT).signed, roles.TARGETS, owner)
    before = {name: metadata.read(old[name], Targets, name) for name in (role, *new) if name in old}
    sent: Files = {}
    if role in new:
        sent[role] = metadata.read(new[role], Targets, role)
        metadata.verify(owner.signed, role, sent[role])
        metadata.check_next(role, before.get(role), sent[role], now, skip=skip)
    elif role not in before:
        raise Invalid("the team has published nothing yet", element=role, remedy="send its role, too")
    present = sent.get(role, before.get(role))
    assert present is not None  # noqa: S101 - one of the two it is
    bins.check_delegation(team, present.signed, owner.signed)
    _check_complete(team, before.get(role), present, new)
    for name in sorted(new.keys() - {role}):
        sent[name] = metadata.read(new[name], Targets, name)
        metadata.verify(present.signed, name, sent[name])
        metadata.check_next(name, before.get(name), sent[name], now, skip=skip)
        bins.check_bin(name, sent[name].signed)
    for name, file in sent.items():
        for path, target in file.signed.targets.items():
            _check_target(team, path, target)
            if present.signed.delegations and name != (role if roles.is_floor(path) else roles.bin_of(team, path)):
                raise Invalid("it belongs into another file of the team", element=path, remedy="publish with edgefleet")
    kept = {path: target for file in sent.values() for path, target in file.signed.targets.items()}
    for name in before.keys() & sent.keys():
        for path, target in before[name].signed.targets.items():
            _check_kept(path, target, kept.get(path))
    return sent


def _check_complete(
    team: Slug, before: Metadata[Targets] | None, present: Metadata[Targets], new: Mapping[str, bytes]
) -> None:
    """A device asks for any bin that the role delegates to, and each must be signed as the role says now."""
    role = roles.team_role(team)
    was = before.signed.delegations if before is not None else None
    if present.signed.delegations is None:
        if was is not None:
            raise Invalid("its releases stand in bins", element=role, remedy="publish with this version's edgefleet")
        every: set[str] = set()
    else:
        every = set(roles.bins(team))
    if unknown := sorted(new.keys() - every - {role}):
        raise Invalid(f"{unknown[0][:80]!r} is no file of the team", element=role, remedy="publish with edgefleet")
    if present.signed.delegations != was and (missing := sorted(every - new.keys())):
        raise Invalid(
            f"{len(missing)} bins are missing", element=missing[0], remedy="sign the team's metadata again, all of it"
        )


def _check_target(team: Slug, path: str, target: TargetFile) -> None:
    roles.check_team_path(team, path)
    if "sha256" not in target.hashes or target.length > manifest.LIMIT:
        raise Invalid(f"it has no sha256 or more than {manifest.LIMIT} bytes", element=path)
    if roles.is_floor(path):
        roles.floor_version(path, target.custom)


def _check_kept(path: str, before: TargetFile, after: TargetFile | None) -> None:
    if after is None:
        raise Invalid("it was published and is missing", element=path, remedy="raise the floor to withdraw a release")
    if roles.is_floor(path):
        check_raised(before, after)
    elif after != before:
        raise Invalid("it was published with other content", element=path, remedy="publish under a new version")
