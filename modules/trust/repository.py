"""Writing trust metadata, the offline part: the owner's root and targets, and a team's releases and floors.

Bytes in, bytes out, and signers, which may hold a key file or stand for a key in an HSM or a cloud's key service.
Nothing here knows where metadata is kept or how it travels. ``modules.trust.publication`` is the fleet server's part,
``modules.trust.device`` the device's.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from modules import canonical, manifest, signing
from modules.errors import BadSettings, Invalid, Untrusted
from modules.names import ModuleRef, Slug, Version
from modules.trust import metadata, roles

ROOT_THRESHOLD: Final = 2
ROOT_KEYS: Final = 3


class OnlineKeys(NamedTuple):
    """The public halves of the keys that the fleet server itself holds."""

    snapshot: Key
    timestamp: Key
    director: Key


class Founded(NamedTuple):
    """A new repository: metadata files, and the bytes of the target ``trust/director.json``."""

    root: bytes
    targets: bytes
    director: bytes


def create(
    *,
    root_signers: Sequence[Signer],
    targets_signers: Sequence[Signer],
    online: OnlineKeys,
    teams: Mapping[Slug, Sequence[Key]],
    now: datetime,
) -> Founded:
    """Version 1 of root and targets: who may sign what, the director's key, and one delegation per team.

    Raises:
        BadSettings: fewer than three different root keys, so that losing one could lock the owner out.
    """
    root_keys = {signer.public_key.keyid for signer in root_signers}
    if len(root_keys) < ROOT_KEYS:
        raise BadSettings(
            f"{len(root_keys)} root keys are fewer than {ROOT_KEYS}", element="root", remedy="make three root keys"
        )
    root = Root(consistent_snapshot=True)
    holders: dict[str, Sequence[Key]] = {
        roles.ROOT: [signer.public_key for signer in root_signers],
        roles.TARGETS: [signer.public_key for signer in targets_signers],
        roles.SNAPSHOT: [online.snapshot],
        roles.TIMESTAMP: [online.timestamp],
    }
    for role, keys in holders.items():
        for key in keys:
            root.add_key(key, role)
    root.roles[roles.ROOT].threshold = ROOT_THRESHOLD
    targets = Targets(delegations=Delegations({}, {}))
    for team, keys in teams.items():
        _delegate(targets, team, keys, threshold=1)
    director = _name_directors(targets, [online.director])
    return Founded(
        metadata.seal(Metadata(root), roles.ROOT, root_signers, now),
        metadata.seal(Metadata(targets), roles.TARGETS, targets_signers, now),
        director,
    )


def change_root(root: bytes, *, keys: Mapping[str, Sequence[Key]], signers: Sequence[Signer], now: datetime) -> bytes:
    """The next root: these roles get these keys instead, the others keep theirs; with no roles it is only renewed.

    Args:
        root: the present one.
        keys: role name -> all of its new keys. Thresholds stay.
        signers: enough of the present root keys, and of the new ones if root's own change.
        now: life begins here.

    Raises:
        Untrusted: the signers do not reach a threshold; the message says whose signatures are missing.
        BadSettings: fewer keys than the role's threshold.
    """
    before = metadata.read(root, Root, roles.ROOT).signed
    after = metadata.read(root, Root, roles.ROOT)
    for role, new in keys.items():
        if len({key.keyid for key in new}) < before.roles[role].threshold:
            raise BadSettings("fewer keys than must sign", element=role, remedy="name all keys of the role")
        for keyid in list(after.signed.roles[role].keyids):
            after.signed.revoke_key(keyid, role)
        for key in new:
            after.signed.add_key(key, role)
    after.signed.version += 1
    data = metadata.seal(after, roles.ROOT, signers, now)
    result = after.signed.get_root_verification_result(before, after.signed_bytes, after.signatures)
    if not result:
        raise Untrusted(
            f"{ROOT_THRESHOLD} old and {ROOT_THRESHOLD} new root keys must sign; without signature: "
            f"{', '.join(sorted(keyid[:12] for keyid in result.unsigned))}",
            element="root",
            remedy="bring more root keys",
        )
    return data


def delegate_team(
    targets: bytes, *, team: Slug, keys: Sequence[Key], signers: Sequence[Signer], now: datetime, threshold: int = 1
) -> bytes:
    """The next targets metadata: the team exists and has these keys, whatever it had before.

    Metadata that the team signed with a key which is now gone must be signed again: :func:`renew`, or for a team that
    may have bins :func:`modules.trust.team_files.renew`.
    """
    file = metadata.read(targets, Targets, roles.TARGETS)
    _delegate(file.signed, team, keys, threshold=threshold)
    file.signed.version += 1
    return metadata.seal(file, roles.TARGETS, signers, now)


def set_director_keys(
    targets: bytes, *, keys: Sequence[Key], signers: Sequence[Signer], now: datetime
) -> tuple[bytes, bytes]:
    """The next targets metadata, in which only these keys may give orders, and the bytes of their list.

    A key that is left out is revoked on every device that gets the metadata.
    """
    file = metadata.read(targets, Targets, roles.TARGETS)
    director = _name_directors(file.signed, keys)
    file.signed.version += 1
    return metadata.seal(file, roles.TARGETS, signers, now), director


def create_team(*, team: Slug, signers: Sequence[Signer], now: datetime) -> bytes:
    """Version 1 of a team's metadata, with nothing in it."""
    return metadata.seal(Metadata(Targets()), roles.team_role(team), signers, now)


def add_target(
    team_metadata: bytes,
    *,
    team: Slug,
    path: str,
    data: bytes,
    signers: Sequence[Signer],
    now: datetime,
    role: str | None = None,
) -> bytes:
    """The team's next metadata, with one more release. The same bytes once more change nothing.

    Whoever does not know whether the team has bins calls :func:`modules.trust.team_files.release`.

    Args:
        team_metadata: the present metadata of the team's role, or of the bin that may list this path.
        team: whose it is.
        path: the manifest's target path.
        data: the manifest's bytes.
        signers: the team's.
        now: life begins here.
        role: the bin, where it is one.

    Raises:
        Invalid: the path is not the team's or not the manifest's own, other bytes stand there already, the team's
            releases stand in bins, or the metadata would grow too large.
    """
    roles.check_team_path(team, path)
    stated = manifest.decode(data).ref.target
    if stated != path:
        raise Invalid(f"the manifest says that it is {stated}", element=path, remedy="sign it under its own name")
    role = role or roles.team_role(team)
    file = metadata.read(team_metadata, Targets, role)
    if file.signed.delegations is not None:
        raise Invalid("the team's releases stand in bins", element=role, remedy="sign it with this version's edgefleet")
    target, before = TargetFile.from_data(path, data, ["sha256"]), file.signed.targets.get(path)
    if before == target:
        return team_metadata
    if before is not None:
        raise Invalid(
            "this version was published with other content",
            element=path,
            remedy="publish under a new version; a published one never changes",
        )
    return _put(file, role, target, signers, now)


def set_floor(
    team_metadata: bytes,
    *,
    team: Slug,
    name: Slug,
    minimum: Version,
    signers: Sequence[Signer],
    now: datetime,
    elsewhere: Iterable[str] = (),
) -> bytes:
    """The team's next metadata, in which no older version of this module than ``minimum`` may run any more.

    ``elsewhere`` are the paths that the team's bins list. The floors stand in the role itself, always.

    Raises:
        Invalid: it would lower the floor, or no published version is as new as that.
    """
    role = roles.team_role(team)
    file = metadata.read(team_metadata, Targets, role)
    listed = (*file.signed.targets, *elsewhere)
    refs = [ModuleRef.from_target(path) for path in listed if not roles.is_floor(path)]
    path = roles.floor_path(team, name)
    if not any(ref.name == name and ref.version >= minimum for ref in refs):
        raise Invalid(
            f"no published version of {name} is {minimum} or newer", element=path, remedy="publish that version first"
        )
    # The version stands in the signed metadata itself, so that a device needs no second fetch to obey it.
    custom = {"minimum": str(minimum)}
    floor = TargetFile.from_data(path, canonical.encode(custom), ["sha256"])
    floor.unrecognized_fields["custom"] = custom
    before = file.signed.targets.get(path)
    if before is not None:
        check_raised(before, floor)
        if roles.floor_version(path, before.custom) == minimum:
            return team_metadata
    return _put(file, role, floor, signers, now)


def renew(data: bytes, *, role: str, signers: Sequence[Signer], now: datetime) -> bytes:
    """The next version of targets, a team's role or a bin with nothing changed but its expiry and its signatures.

    Raises:
        BadSettings: a role with bins, and signers that may not sign those: all of them must be signed again then.
    """
    again = metadata.read(data, Targets, role)
    below = again.signed.delegations.succinct_roles if again.signed.delegations else None
    if below is not None and not {signer.public_key.keyid for signer in signers} <= set(below.keyids):
        raise BadSettings(
            "its bins are signed by other keys", element=role, remedy="sign the team's metadata again, all of it"
        )
    again.signed.version += 1
    return metadata.seal(again, role, signers, now)


def check_raised(before: TargetFile, after: TargetFile) -> None:
    """Accept a floor in place of another.

    Raises:
        Invalid: it is lower.
    """
    was, becomes = (roles.floor_version(floor.path, floor.custom) for floor in (before, after))
    if becomes < was:
        raise Invalid(
            f"the floor is {was} already, and {becomes} is lower",
            element=after.path,
            remedy="publish the old content again under a newer version",
        )


def _put(file: Metadata[Targets], role: str, target: TargetFile, signers: Sequence[Signer], now: datetime) -> bytes:
    file.signed.targets[target.path] = target
    file.signed.version += 1
    return metadata.seal(file, role, signers, now)


def _delegate(targets: Targets, team: Slug, keys: Sequence[Key], *, threshold: int) -> None:
    role = roles.team_role(team)
    if len({key.keyid for key in keys}) < threshold:
        raise BadSettings("fewer keys than must sign", element=role, remedy="name all keys of the team")
    delegations = targets.delegations
    if delegations is None or delegations.roles is None:
        raise Invalid("it delegates to nobody by name", element="targets", remedy="begin with a new repository")
    delegated = DelegatedRole(
        role, [key.keyid for key in keys], threshold, terminating=True, paths=roles.team_paths(team)
    )
    delegations.roles[role] = delegated
    delegations.keys.update({key.keyid: key for key in keys})
    used = {keyid for other in delegations.roles.values() for keyid in other.keyids}
    for keyid in set(delegations.keys) - used:
        del delegations.keys[keyid]


def _name_directors(targets: Targets, keys: Sequence[Key]) -> bytes:
    data = signing.encode_keys(keys)
    targets.targets[roles.DIRECTOR_PATH] = TargetFile.from_data(roles.DIRECTOR_PATH, data, ["sha256"])
    return data
