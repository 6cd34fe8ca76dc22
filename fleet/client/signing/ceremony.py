"""Root, targets and teams signed anew: what changes, who has to sign it, and the folder in which it travels.

A folder of drafts holds TUF metadata as it will be published, ``director.json`` where the list of director keys
changes, and below ``present/`` what it follows: so a holder on a machine without a network sees what changes, signs,
and passes the folder on. Whoever drafted it may have lied about ``present/``; the fleet server and every device compare
with what they have.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Root, Targets

from fleet.client.signing.trusted import Present
from modules.errors import BadSettings, Invalid
from modules.names import Slug
from modules.signing import decode_keys
from modules.trust import drafts, metadata, roles, succession

DIRECTOR: Final = "director"
_TEAM: Final = roles.team_role(Slug(""))
_DIRECTOR_FILE: Final = "director.json"
_PRESENT: Final = "present"
_LARGEST: Final = 1 << 20


class Change(msgspec.Struct, kw_only=True):
    """What is to be signed, by role, after what is in force; ``director`` where its list changes."""

    root_now: bytes
    targets_now: bytes
    files: dict[str, bytes] = {}
    director: bytes | None = None

    @property
    def parts(self) -> list[str]:
        """The roles, as holders speak of them: a team's bins are signed with its role and not named."""
        return [role for role in self.files if not roles.is_bin(role)]

    @property
    def root(self) -> bytes:
        """The root that will be in force."""
        return self.files.get(roles.ROOT, self.root_now)

    @property
    def targets(self) -> bytes:
        """The targets metadata that will be in force."""
        return self.files.get(roles.TARGETS, self.targets_now)

    def may_sign(self, role: str) -> frozenset[str]:
        """The ids of the keys whose signatures count for this file."""
        if role == roles.ROOT:
            both = (metadata.read(data, Root, role).signed for data in (self.root_now, self.root))
            return frozenset(keyid for root in both for keyid in root.roles[role].keyids)
        if role == roles.TARGETS:
            return frozenset(metadata.read(self.root, Root, roles.ROOT).signed.roles[role].keyids)
        return frozenset(drafts.keys_of(self.targets, roles.TARGETS).get(_role_above(role), ()))

    def missing(self) -> dict[str, list[str]]:
        """Whose signatures are still missing, in words by role; empty where it can be sent.

        The holders of a team's role sign its bins, too: of all that are missing the first one is named, and those
        only where the role itself has its signatures.
        """
        found: dict[str, list[str]] = {}
        for role, data in self.files.items():
            if role == roles.ROOT:
                lacking = succession.missing_of_root(old=self.root_now, new=data)
            else:
                lacking = succession.missing_of(self._delegator(role), role=role, data=data)
            if lacking and roles.is_bin(role):
                found.setdefault(_role_above(role), lacking)
            elif lacking:
                found[role] = lacking
        return found

    def _delegator(self, role: str) -> bytes:
        if role == roles.TARGETS:
            return self.root
        return self.files.get(_role_above(role), b"") if roles.is_bin(role) else self.targets

    def sign(self, signers: Sequence[Signer]) -> dict[str, list[str]]:
        """Add these signatures wherever they count; returns the roles by key id, with bins counted to their team's.

        Raises:
            BadSettings: one of the keys may sign none of it.
        """
        signed: dict[str, list[str]] = {}
        for signer in signers:
            keyid = signer.public_key.keyid
            mine = [role for role in self.files if keyid in self.may_sign(role)]
            signed[keyid] = [role for role in mine if not roles.is_bin(role)]
            if not signed[keyid]:
                raise BadSettings(
                    f"key {keyid[:12]} may sign none of it: {', '.join(self.parts)}",
                    element=keyid,
                    remedy="name a key of the role: edgefleet keys status lists them by their ids",
                )
            for role in mine:
                self.files[role] = drafts.add_signatures(self.files[role], role=role, signers=[signer])
        return signed

    def document(self) -> dict[str, Any]:
        """As the server's API takes it."""
        bins = {role: data for role, data in self.files.items() if roles.is_bin(role)}
        teams = {role.removeprefix(_TEAM): data for role, data in self.files.items() if role.startswith(_TEAM)}
        found: dict[str, Any] = {"teams": teams, "bins": bins}
        for role in (roles.ROOT, roles.TARGETS):
            if role in self.files:
                found[role] = self.files[role]
        return found | ({"director": self.director} if self.director is not None else {})


def renewal(present: Present, chosen: Sequence[str], *, now: datetime, above: int = 0) -> Change:
    """Sign these roles again: root, targets, or teams, whose bins ``present`` has.

    Raises:
        BadSettings: the server signs this role itself, or there is none such.
    """
    change = Change(root_now=present.root, targets_now=present.targets)
    for role in chosen:
        if role == roles.ROOT:
            change.files[role] = drafts.next_root(present.root, keys={}, now=now)
        elif role == roles.TARGETS:
            change.files[role] = drafts.next_targets(present.targets, now=now, above=above).targets
        elif role in {roles.SNAPSHOT, roles.TIMESTAMP, DIRECTOR}:
            raise BadSettings("the fleet server signs it by itself, each day", element=role, remedy="leave it out")
        else:
            team = _team(present, role)
            change.files |= drafts.again_of_team(
                present.team_files(team), team=team, targets=present.targets, now=now, above=above
            )
    return change


def replacement(present: Present, role: str, keys: Sequence[Key], *, now: datetime) -> Change:
    """Let this role have these keys and no others; what its old keys alone have signed comes along, to be signed anew.

    Of a team's role ``present`` has the bins: they come along, too.

    Raises:
        BadSettings: no such role, or fewer keys than must sign.
    """
    change = Change(root_now=present.root, targets_now=present.targets)
    if role in roles.TOP_LEVEL:
        change.files[roles.ROOT] = drafts.next_root(present.root, keys={role: keys}, now=now)
        if role == roles.TARGETS and succession.missing_of(change.root, role=role, data=present.targets):
            change.files[role] = drafts.next_targets(present.targets, now=now).targets
    elif role == DIRECTOR:
        made = drafts.next_targets(present.targets, now=now, directors=keys)
        change.files[roles.TARGETS], change.director = made
    else:
        team = _team(present, role)
        change.files[roles.TARGETS] = drafts.next_targets(present.targets, now=now, teams={team: keys}).targets
        own = drafts.again_of_team(present.team_files(team), team=team, targets=change.targets, now=now)
        # With bins its role says itself whose keys count below it.
        if len(own) > 1 or succession.missing_of(change.targets, role=role, data=present.teams[team]):
            change.files |= own
    return change


def keys_of(present: Present, role: str) -> dict[str, Key]:
    """The present keys of a role by id.

    Raises:
        BadSettings: there is no such role.
    """
    if role == DIRECTOR:
        return dict(decode_keys(present.director))
    if role in roles.TOP_LEVEL:
        root = metadata.read(present.root, Root, roles.ROOT).signed
        return {keyid: root.keys[keyid] for keyid in root.roles[role].keyids}
    _team(present, role)
    targets = metadata.read(present.targets, Targets, roles.TARGETS).signed
    named = targets.delegations.keys if targets.delegations else {}
    return {keyid: named[keyid] for keyid in drafts.keys_of(present.targets, roles.TARGETS)[role]}


def threshold_of(present: Present, role: str) -> int:
    """How many of a role's keys must sign."""
    if role in roles.TOP_LEVEL:
        return int(metadata.read(present.root, Root, roles.ROOT).signed.roles[role].threshold)
    if role == DIRECTOR:
        return 1
    named = metadata.read(present.targets, Targets, roles.TARGETS).signed.delegations
    return int(named.roles[role].threshold) if named and named.roles else 1


def write(folder: Path, change: Change) -> list[str]:
    """Put the drafts into a folder, new or with an earlier state of the same; the names of the files.

    Raises:
        BadSettings: there is something else in it.
    """
    named = {roles.file_name(role, metadata.version(data, role)): data for role, data in change.files.items()}
    if change.director is not None:
        named[_DIRECTOR_FILE] = change.director
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if other := sorted(path.name for path in folder.iterdir() if path.name not in {*named, _PRESENT}):
        raise BadSettings(
            f"there is something else in this folder: {other[0]}", element=str(folder), remedy="name a new folder"
        )
    (folder / _PRESENT).mkdir(exist_ok=True)
    before = {f"{_PRESENT}/root.json": change.root_now, f"{_PRESENT}/targets.json": change.targets_now}
    for name, data in (before | named).items():
        draft = folder / f"{name}.new"
        draft.write_bytes(data)
        draft.replace(folder / name)
    return sorted(named)


def read(place: Path) -> Change:
    """The drafts in a folder, which may be named by one of its files.

    Raises:
        BadSettings: no such folder, or it holds no drafts.
        Invalid: a file is no metadata of an offline role.
    """
    folder = place if place.is_dir() else place.parent
    try:
        change = Change(
            root_now=_bytes(folder / _PRESENT / "root.json"), targets_now=_bytes(folder / _PRESENT / "targets.json")
        )
        for path in sorted(folder.glob("*.json")):
            data = _bytes(path)
            if path.name == _DIRECTOR_FILE:
                change.director = data
            else:
                change.files[drafts.role_of(data, path.name)] = data
    except OSError as error:
        raise BadSettings(
            f"it cannot be read: {error.strerror}", element=str(error.filename),
            remedy="bring the whole folder that --draft wrote, with present/ in it",
        ) from error  # fmt: skip
    if not change.files:
        raise BadSettings("there is no draft in it", element=str(folder), remedy="name the folder that --draft wrote")
    return change


def described(change: Change) -> list[dict[str, Any]]:
    """What each draft says, and what it changes: for whoever is about to sign it. Bins stand with their team's role."""
    found = []
    missing = change.missing()
    for role in change.parts:
        data = change.files[role]
        kind = Root if role == roles.ROOT else Targets
        signed = metadata.read(data, Root, role).signed if kind is Root else metadata.read(data, Targets, role).signed
        before: Mapping[str, Sequence[str]] = {}
        if role in {roles.ROOT, roles.TARGETS}:
            before = drafts.keys_of(change.root_now if role == roles.ROOT else change.targets_now, role)
        after = drafts.keys_of(data, role)
        found.append(
            {
                "role": role,
                "version": signed.version,
                "expires": signed.expires.strftime("%Y-%m-%d"),
                "added": _differing(after, before) if before else {},
                "removed": _differing(before, after),
                "missing": missing.get(role, []),
                "bins": sum(roles.is_bin(name) and _role_above(name) == role for name in change.files),
            }
        )
    if change.director is not None:
        found.append({"role": DIRECTOR, "keys": sorted(decode_keys(change.director))})
    return found


def _differing(those: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What ``those`` roles have beyond the ``others``."""
    more = {role: sorted(set(keys) - set(others.get(role, ()))) for role, keys in those.items()}
    return {role: keys for role, keys in more.items() if keys}


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise Invalid("it is larger than any metadata", element=str(path))
    return data


def _team(present: Present, role: str) -> Slug:
    """Whose role this is."""
    team = Slug(role.removeprefix(_TEAM))
    if not role.startswith(_TEAM) or team not in present.teams:
        known = ", ".join([*roles.TOP_LEVEL, DIRECTOR, *map(roles.team_role, sorted(present.teams))])
        raise BadSettings("there is no such role", element=role, remedy=f"name one of: {known}")
    return team


def _role_above(role: str) -> str:
    """The team's role of a bin; of all else itself."""
    team = roles.team_of(role)
    return role if team is None else roles.team_role(team)
