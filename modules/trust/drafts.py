"""The next version of what offline keys sign, first without signatures: holders add theirs one after the other.

A draft is a file of trust metadata like any other, under the name it will be published by, so that two holders of root
keys never need them on one machine. What is too little signed is refused by the fleet server and by every device.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from modules import signing
from modules.errors import BadSettings, Invalid
from modules.names import Slug
from modules.trust import bins, metadata, roles


class NextTargets(NamedTuple):
    """The next targets metadata, and the bytes of the list of director keys that it names."""

    targets: bytes
    director: bytes | None


def next_root(root: bytes, *, keys: Mapping[str, Sequence[Key]], now: datetime) -> bytes:
    """The next root, unsigned: these roles get these keys instead, the others keep theirs; thresholds stay.

    Raises:
        BadSettings: fewer keys than must sign.
    """
    file = metadata.read(root, Root, roles.ROOT)
    for role, new in keys.items():
        _enough(role, new, file.signed.roles[role].threshold)
        for keyid in list(file.signed.roles[role].keyids):
            file.signed.revoke_key(keyid, role)
        for key in new:
            file.signed.add_key(key, role)
    file.signed.version += 1
    return _bare(file, roles.ROOT, now)


def next_targets(
    targets: bytes,
    *,
    now: datetime,
    teams: Mapping[Slug, Sequence[Key]] | None = None,
    directors: Sequence[Key] | None = None,
    above: int = 0,
) -> NextTargets:
    """The next targets metadata, unsigned: these teams, which it names already, get these keys; and so the director.

    ``above`` is a version that was seen before a backup was restored: the next one is above it, too.

    Raises:
        BadSettings: fewer keys than must sign, or no such team.
    """
    file = metadata.read(targets, Targets, roles.TARGETS)
    for team, new in (teams or {}).items():
        role = roles.team_role(team)
        named = file.signed.delegations.roles if file.signed.delegations else None
        if not named or role not in named:
            raise BadSettings("the owner has named no such team", element=role, remedy="see: edgefleet teams list")
        _enough(role, new, named[role].threshold)
        for keyid in list(named[role].keyids):
            file.signed.revoke_key(keyid, role)
        for key in new:
            file.signed.add_key(key, role)
    listed = None
    if directors is not None:
        _enough("director", directors, 1)
        listed = signing.encode_keys(directors)
        file.signed.targets[roles.DIRECTOR_PATH] = TargetFile.from_data(roles.DIRECTOR_PATH, listed, ["sha256"])
    file.signed.version = max(file.signed.version, above) + 1
    return NextTargets(_bare(file, roles.TARGETS, now), listed)


def again_of_team(
    files: Mapping[str, bytes], *, team: Slug, targets: bytes, now: datetime, above: int = 0
) -> dict[str, bytes]:
    """The next files of a team, unsigned, with nothing changed but their life, and who may sign its bins.

    That is the role alone; with all bins where the team's keys are others since they were signed, or with ``above``.

    Args:
        files: all of the team's.
        team: whose they are.
        targets: the owner's targets metadata that is to come; it names the team's keys.
        now: life begins here.
        above: as of :func:`next_targets`.

    Raises:
        Untrusted: ``targets`` does not name the team.
    """
    role = roles.team_role(team)
    read = {name: metadata.read(data, Targets, name) for name, data in files.items()}
    delegations = read[role].signed.delegations
    if delegations is None:
        due = [role]
    else:
        now_named = bins.delegation(team, metadata.read(targets, Targets, roles.TARGETS).signed)
        due = [role] if delegations == now_named and not above else [role, *roles.bins(team)]
        read[role].signed.delegations = now_named
    for name in due:
        read[name].signed.version = max(read[name].signed.version, above) + 1
    return {name: _bare(read[name], name, now) for name in due}


def add_signatures(data: bytes, *, role: str, signers: Iterable[Signer]) -> bytes:
    """The same file with these signatures beside those that it has; its content stays as it is.

    Raises:
        Invalid: it is no such metadata.
    """
    file = _read(data, role)
    for signer in signers:
        file.sign(signer, append=True)
    return metadata.checked(file.to_bytes(), role)


def role_of(data: bytes, name: str) -> str:
    """The role of a draft: what it is says its content; which team's, only its name, as in ``7.team-acme.json``.

    Raises:
        Invalid: it is no metadata of an offline role, or is named after another role.
    """
    parts = name.removesuffix(".json").split(".")
    role = parts[-1]
    if role not in {roles.ROOT, roles.TARGETS} and roles.team_of(role) is None:
        raise Invalid(
            "its name says no role that offline keys sign",
            element=name,
            remedy="name it as it was written: VERSION.root.json, VERSION.targets.json or VERSION.team-NAME.json",
        )
    _read(data, role)
    return role


def keys_of(data: bytes, role: str) -> Mapping[str, Sequence[str]]:
    """Which key ids a draft names for which role: for root the top-level roles, for targets the teams."""
    if role == roles.ROOT:
        root = metadata.read(data, Root, role).signed
        return {name: tuple(entry.keyids) for name, entry in root.roles.items()}
    named = metadata.read(data, Targets, role).signed.delegations
    return {name: tuple(entry.keyids) for name, entry in (named.roles or {}).items()} if named else {}


def _enough(role: str, new: Sequence[Key], threshold: int) -> None:
    different = len({key.keyid for key in new})
    if different < threshold:
        raise BadSettings(
            f"too few keys are named: {different}, and {threshold} must sign",
            element=role,
            remedy="name a new key for each that goes: edgefleet keys rotate",
        )


def _read(data: bytes, role: str) -> Metadata[Root] | Metadata[Targets]:
    return metadata.read(data, Root, role) if role == roles.ROOT else metadata.read(data, Targets, role)


def _bare(file: Metadata[Root] | Metadata[Targets], role: str, now: datetime) -> bytes:
    file.signed.expires = now + roles.life(role)
    file.signatures.clear()
    return metadata.checked(file.to_bytes(), role)
