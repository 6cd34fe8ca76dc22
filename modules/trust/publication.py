"""The fleet server's part of the trust metadata: check what a team sends, and tie the present files together.

The server holds the snapshot and timestamp keys and no other. With them it can delay news, never make any.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from modules import manifest
from modules.errors import BadSettings, Invalid, Untrusted
from modules.names import Slug
from modules.trust import metadata, roles
from modules.trust.repository import check_raised

# Names of files have nine digits for it.
HIGHEST_VERSION: Final = 100_000_000


class Online(NamedTuple):
    """What the fleet server signs."""

    snapshot: bytes
    timestamp: bytes


def publish_online(
    *,
    root: bytes,
    targets: bytes,
    teams: Mapping[Slug, bytes],
    previous: Online | None,
    snapshot_signer: Signer,
    timestamp_signer: Signer,
    now: datetime,
) -> Online:
    """Tie the present metadata together, after each change and once a day.

    The timestamp is always new. The snapshot is new if something changed, if its keys did, or if half its life is
    over. A role that was published once stays listed, because devices refuse a snapshot without it.

    Raises:
        BadSettings: a signer's key is not the one that root names.
        Untrusted: something is not signed as root and targets demand, or is older than what was published before.
        Invalid: a file is no metadata.
    """
    top = metadata.read(root, Root, roles.ROOT)
    metadata.verify(top.signed, roles.ROOT, top)
    for role, signer in ((roles.SNAPSHOT, snapshot_signer), (roles.TIMESTAMP, timestamp_signer)):
        if signer.public_key.keyid not in top.signed.roles[role].keyids:
            raise BadSettings("root names another key for it", element=role, remedy="give the key that root names")
    sealed, version = _tied(top.signed, _listed(top.signed, targets, teams), previous, snapshot_signer, now)
    timestamp = Metadata(Timestamp(version=1, snapshot_meta=MetaFile.from_data(version, sealed, ["sha256"])))
    if previous is not None:
        timestamp.signed.version = _version_after(metadata.read(previous.timestamp, Timestamp, roles.TIMESTAMP))
    return Online(sealed, metadata.seal(timestamp, roles.TIMESTAMP, [timestamp_signer], now))


def published(*, root: bytes, targets: bytes, teams: Mapping[Slug, bytes], online: Online) -> dict[str, bytes]:
    """The present files under the names that devices ask for.

    Keep what was published under other names: a device that was away fetches every root since its own.
    """
    named = {roles.file_name(roles.TIMESTAMP, 0): online.timestamp}
    present = {roles.ROOT: root, roles.TARGETS: targets, roles.SNAPSHOT: online.snapshot}
    for role, data in (present | {roles.team_role(team): data for team, data in teams.items()}).items():
        named[roles.file_name(role, metadata.version(data, role))] = data
    return named


def check_team_update(
    *, root: bytes, targets: bytes, team: Slug, old: bytes | None, new: bytes, now: datetime, skip: bool = False
) -> Metadata[Targets]:
    """What the server verifies before it takes a team's new metadata; devices verify it again.

    Args:
        root: the present root metadata.
        targets: the present top-level targets metadata.
        team: whose metadata it is.
        old: the team's present metadata, None at its first.
        new: what was sent.
        now: the time to hold expiry against.
        skip: whether it may skip versions, as :func:`check_next` has it.

    Returns:
        The new metadata, for its targets.

    Raises:
        Untrusted: not signed by enough of the team's keys, expired, or not the version after the present one.
        Invalid: no metadata, a path that is not the team's, or a release or floor that an earlier version had
            and this one lacks, alters or lowers.
    """
    role = roles.team_role(team)
    delegator = metadata.read(targets, Targets, roles.TARGETS)
    metadata.verify(metadata.read(root, Root, roles.ROOT).signed, roles.TARGETS, delegator)
    file = metadata.read(new, Targets, role)
    metadata.verify(delegator.signed, role, file)
    before = metadata.read(old, Targets, role) if old is not None else None
    check_next(role, before, file, now, skip=skip)
    if file.signed.delegations is not None:
        raise Invalid("a team cannot delegate further", element=role, remedy="ask the owner for a team of its own")
    for path, target in file.signed.targets.items():
        _check_target(team, path, target)
    for path, target in before.signed.targets.items() if before is not None else ():
        _check_kept(path, target, file.signed.targets.get(path))
    return file


def check_targets_update(*, root: bytes, old: bytes, new: bytes, now: datetime) -> None:
    """What the server verifies before it takes new targets metadata of the owner's, in which a team may be new.

    Raises:
        Untrusted: not signed by the targets key that root names, expired, or not the version after the present one.
        Invalid: no metadata, or it names other director keys, or lacks a team that was named.
    """
    file, before = (metadata.read(data, Targets, roles.TARGETS) for data in (new, old))
    metadata.verify(metadata.read(root, Root, roles.ROOT).signed, roles.TARGETS, file)
    check_next(roles.TARGETS, before, file, now)
    if file.signed.targets != before.signed.targets:
        raise Invalid("it names other director keys", element=roles.TARGETS, remedy="add the team and nothing else")
    if lost := sorted(_named(before.signed) - _named(file.signed)):
        raise Invalid(
            "it no longer names this team, whose modules devices would refuse",
            element=lost[0],
            remedy="fetch the present metadata and add to that",
        )


def check_next(
    role: str,
    before: Metadata[metadata.T] | None,
    file: Metadata[metadata.T],
    now: datetime,
    *,
    skip: bool = False,
) -> None:
    """Accept metadata as the one that comes after ``before``.

    Args:
        role: whose it is.
        before: the present one.
        file: the new one.
        now: the time to hold expiry against.
        skip: whether versions may be skipped: after a restored backup, devices have seen some that are lost.

    Raises:
        Untrusted: it is not the next version, or has expired.
        Invalid: its version is absurd.
    """
    due = _version_after(before) if before is not None else 1
    if file.signed.version < due or (file.signed.version > due and not skip):
        raise Untrusted(
            f"this is version {file.signed.version}, and version {due} is next",
            element=role,
            remedy="fetch the present metadata and add to that",
        )
    if file.signed.version > HIGHEST_VERSION:
        raise Invalid(
            f"a version above {HIGHEST_VERSION} leaves no room for those after it",
            element=role,
            remedy="sign it with a lower one",
        )
    if file.signed.is_expired(now):
        raise Untrusted(
            f"it expired at {file.signed.expires:%Y-%m-%d %H:%M} UTC",
            element=role,
            remedy="sign it again, on a machine whose clock is right",
        )


def _named(targets: Targets) -> set[str]:
    return set(targets.delegations.roles or ()) if targets.delegations else set()


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


def _listed(root: Root, targets: bytes, teams: Mapping[Slug, bytes]) -> dict[str, MetaFile]:
    delegator = metadata.read(targets, Targets, roles.TARGETS)
    metadata.verify(root, roles.TARGETS, delegator)
    listed = {"targets.json": MetaFile.from_data(delegator.signed.version, targets, ["sha256"])}
    for team, data in teams.items():
        role = roles.team_role(team)
        file = metadata.read(data, Targets, role)
        metadata.verify(delegator.signed, role, file)
        listed[f"{role}.json"] = MetaFile.from_data(file.signed.version, data, ["sha256"])
    return listed


def _tied(
    root: Root, listed: dict[str, MetaFile], previous: Online | None, signer: Signer, now: datetime
) -> tuple[bytes, int]:
    if previous is None:
        return metadata.seal(Metadata(Snapshot(version=1, meta=listed)), roles.SNAPSHOT, [signer], now), 1
    before = metadata.read(previous.snapshot, Snapshot, roles.SNAPSHOT)
    for name, entry in listed.items():
        _check_forward(name, before.signed.meta.get(name), entry)
    meta = {**before.signed.meta, **listed}
    young = before.signed.expires - now > roles.life(roles.SNAPSHOT) / 2
    held = root.get_verification_result(roles.SNAPSHOT, before.signed_bytes, before.signatures)
    if meta == before.signed.meta and young and held:
        return previous.snapshot, before.signed.version
    version = _version_after(before)
    return metadata.seal(Metadata(Snapshot(version=version, meta=meta)), roles.SNAPSHOT, [signer], now), version


def _check_forward(name: str, before: MetaFile | None, after: MetaFile) -> None:
    if before is None or after.version > before.version:
        return
    if after.version < before.version:
        raise Untrusted(
            f"version {after.version} comes after version {before.version} was published",
            element=name,
            remedy="after a restored backup, have it signed again above that version",
        )
    if after != before:
        raise Untrusted(
            f"two different files are version {after.version}", element=name, remedy="sign the newer one again"
        )


def _version_after(file: Metadata[metadata.T]) -> int:
    return file.signed.version + 1
