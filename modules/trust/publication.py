"""The fleet server's part of the trust metadata: check what a team sends, and tie the present files together.

The server holds the snapshot and timestamp keys and no other. With them it can delay news, never make any.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from modules.errors import BadSettings, Invalid, Untrusted
from modules.names import Slug
from modules.trust import metadata, roles
from modules.trust.team_update import check_team_files


class Online(NamedTuple):
    """What the fleet server signs."""

    snapshot: bytes
    timestamp: bytes


def publish_online(
    *,
    root: bytes,
    targets: bytes,
    teams: Mapping[Slug, bytes],
    bins: Mapping[str, int] | None = None,
    previous: Online | None,
    snapshot_signer: Signer,
    timestamp_signer: Signer,
    now: datetime,
) -> Online:
    """Tie the present metadata together, after each change and once a day.

    The timestamp is always new. The snapshot is new if something changed, if its keys did, or if half its life is
    over. A role that was published once stays listed, because devices refuse a snapshot without it.

    Of ``bins`` (a bin's name -> the version of what :func:`check_team_files` let in) the snapshot has the version and
    no hash: TUF asks for no more, and with hashes it would be four times as long, for every device at each release.
    Versions are enough against mixing what was never published together, for nobody but the team can sign two files
    of one version.

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
    listed = _listed(top.signed, targets, teams) | {f"{name}.json": MetaFile(own) for name, own in (bins or {}).items()}
    sealed, version = _tied(top.signed, listed, previous, snapshot_signer, now)
    timestamp = Metadata(Timestamp(version=1, snapshot_meta=MetaFile.from_data(version, sealed, ["sha256"])))
    if previous is not None:
        timestamp.signed.version = _version_after(metadata.read(previous.timestamp, Timestamp, roles.TIMESTAMP))
    return Online(sealed, metadata.seal(timestamp, roles.TIMESTAMP, [timestamp_signer], now))


def published(
    *,
    root: bytes,
    targets: bytes,
    teams: Mapping[Slug, bytes],
    bins: Mapping[str, bytes] | None = None,
    online: Online,
) -> dict[str, bytes]:
    """The present files under the names that devices ask for.

    Keep what was published under other names: a device that was away fetches every root since its own.
    """
    named = {roles.file_name(roles.TIMESTAMP, 0): online.timestamp}
    present = {roles.ROOT: root, roles.TARGETS: targets, roles.SNAPSHOT: online.snapshot}
    for role, data in (
        present | {roles.team_role(team): data for team, data in teams.items()} | dict(bins or {})
    ).items():
        named[roles.file_name(role, metadata.version(data, role))] = data
    return named


def check_team_update(
    *, root: bytes, targets: bytes, team: Slug, old: bytes | None, new: bytes, now: datetime, skip: bool = False
) -> Metadata[Targets]:
    """As :func:`check_team_files` for a team's role alone; ``old`` is the present one, None at its first."""
    role = roles.team_role(team)
    present = {} if old is None else {role: old}
    new_files = {role: new}
    return check_team_files(root=root, targets=targets, team=team, old=present, new=new_files, now=now, skip=skip)[role]


def check_targets_update(*, root: bytes, old: bytes, new: bytes, now: datetime) -> None:
    """What the server verifies before it takes new targets metadata of the owner's, in which a team may be new.

    Raises:
        Untrusted: not signed by the targets key that root names, expired, or not the version after the present one.
        Invalid: no metadata, or it names other director keys, or lacks a team that was named.
    """
    file, before = (metadata.read(data, Targets, roles.TARGETS) for data in (new, old))
    metadata.verify(metadata.read(root, Root, roles.ROOT).signed, roles.TARGETS, file)
    metadata.check_next(roles.TARGETS, before, file, now)
    if file.signed.targets != before.signed.targets:
        raise Invalid("it names other director keys", element=roles.TARGETS, remedy="add the team and nothing else")
    if lost := sorted(_named(before.signed) - _named(file.signed)):
        raise Invalid(
            "it no longer names this team, whose modules devices would refuse",
            element=lost[0],
            remedy="fetch the present metadata and add to that",
        )


def _named(targets: Targets) -> set[str]:
    return set(targets.delegations.roles or ()) if targets.delegations else set()


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
