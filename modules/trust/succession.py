"""What the fleet server verifies before it takes new root or targets metadata of the owner's; devices verify it again.

The rules for root are those of the TUF specification, 5.3: the next version, signed by a threshold of the present keys
and of its own. Beyond them it refuses what would only harm: a lower threshold, one key in two roles, a lost team.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

from securesystemslib.signer import Key
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Root, Targets
from tuf.api.metadata import VerificationResult as Verified

from modules.errors import Invalid, Untrusted
from modules.names import Slug, slug
from modules.signing import decode_keys
from modules.trust import metadata, roles

# What edgefleet makes and devices are tried with.
KINDS: Final = frozenset({"ed25519", "ecdsa-sha2-nistp256"})
_TEAM: Final = roles.team_role(Slug(""))


def check_root(*, old: bytes, new: bytes, now: datetime) -> None:
    """Accept the next root.

    Raises:
        Untrusted: too few of the present or of the new root keys signed it, it skips a version, or has expired.
        Invalid: no root metadata, a threshold lower than before, or a key that two roles have.
    """
    before, file = (metadata.read(data, Root, roles.ROOT) for data in (old, new))
    metadata.check_next(roles.ROOT, before, file, now)
    if lacking := missing_of_root(old=old, new=new):
        raise Untrusted("; ".join(lacking), element=roles.ROOT, remedy="bring more holders: edgefleet keys sign FILE")
    for role, entry in before.signed.roles.items():
        if file.signed.roles[role].threshold < entry.threshold:
            raise Invalid(
                f"its threshold would be {file.signed.roles[role].threshold}, and is {entry.threshold} today",
                element=role,
                remedy="keep the threshold",
            )
    for role in (roles.SNAPSHOT, roles.TIMESTAMP):
        if file.signed.roles[role].threshold != 1:
            raise Invalid("the fleet server signs it alone, with one key", element=role, remedy="keep the threshold")
    if not file.signed.consistent_snapshot:
        raise Invalid("its files would have no versions", element=roles.ROOT, remedy="keep consistent snapshots")
    _apart(_of_root(file.signed))


def missing_of_root(*, old: bytes, new: bytes) -> list[str]:
    """Who has still to sign this root, in words; empty where enough have."""
    before, file = (metadata.read(data, Root, roles.ROOT) for data in (old, new))
    found = file.signed.get_root_verification_result(before.signed, file.signed_bytes, file.signatures)
    if set(before.signed.roles[roles.ROOT].keyids) == set(file.signed.roles[roles.ROOT].keyids):
        return _lacking("of the root keys", found.first)
    return [
        *_lacking("of the present root keys", found.first),
        *_lacking("of the new root keys", found.second),
    ]


def missing_of(delegator: bytes, *, role: str, data: bytes) -> list[str]:
    """Who has still to sign targets, a team's role or a bin, in words.

    ``delegator`` is what demands it: root of targets, targets of a team's role, the team's role of a bin.
    """
    file, named = metadata.read(data, Targets, role), _delegator(delegator, role)
    try:
        return _lacking(f"of {role}'s keys", named.get_verification_result(role, file.signed_bytes, file.signatures))
    except ValueError:
        return [f"nobody has delegated {role}"]


def check_targets(
    *, root: bytes, old: bytes, new: bytes, director: bytes | None, teams: Collection[Slug], now: datetime, skip: bool
) -> None:
    """Accept the next targets metadata: other director keys, other keys of teams, teams that are new.

    Args:
        root: the root metadata that is in force, or will be with it.
        old: the present targets metadata.
        new: what was sent.
        director: the bytes of the list of director keys that ``new`` names, where it names another than ``old``.
        teams: those whose metadata comes along.
        now: the time to hold expiry against.
        skip: whether versions may be skipped (:func:`modules.trust.metadata.check_next`).

    Raises:
        Untrusted: too few of the targets keys signed it, it is not the next version, or has expired.
        Invalid: it lacks a team, names one in another way than edgefleet does, or a key that another role has.
    """
    file, before = (metadata.read(data, Targets, roles.TARGETS) for data in (new, old))
    named = metadata.read(root, Root, roles.ROOT).signed
    metadata.verify(named, roles.TARGETS, file)
    metadata.check_next(roles.TARGETS, before, file, now, skip=skip)
    if set(file.signed.targets) != {roles.DIRECTOR_PATH}:
        raise Invalid(
            f"beside the teams it names {roles.DIRECTOR_PATH} and nothing else",
            element=roles.TARGETS,
            remedy="fetch the present metadata and change that",
        )
    teams_before, teams_after = _teams(before.signed), _teams(file.signed)
    if lost := sorted(teams_before - teams_after):
        raise Invalid(
            "it no longer names this team, whose modules devices would refuse",
            element=lost[0],
            remedy="keep the team; to stop it, give it a new key: edgefleet keys rotate",
        )
    if alone := sorted(teams_after - teams_before - {roles.team_role(team) for team in teams}):
        raise Invalid("the new team's own metadata is missing", element=alone[0], remedy="use: edgefleet teams add")
    holders = _of_root(named)
    if file.signed.delegations is not None:
        holders["a team"] = list({key.keyid: key for key in file.signed.delegations.keys.values()}.values())
    if director is not None:
        holders["director"] = _directors(file.signed, director)
    elif file.signed.targets != before.signed.targets:
        raise Invalid("it names other director keys, and their list is missing", element=roles.DIRECTOR_PATH)
    _apart(holders)


def _delegator(data: bytes, role: str) -> Root | Targets:
    if role == roles.TARGETS:
        return metadata.read(data, Root, roles.ROOT).signed
    return metadata.read(data, Targets, roles.TARGETS).signed


def _directors(targets: Targets, director: bytes) -> list[Key]:
    try:
        targets.targets[roles.DIRECTOR_PATH].verify_length_and_hashes(director)
    except LengthOrHashMismatchError as error:
        raise Invalid("these are not the bytes that targets lists", element=roles.DIRECTOR_PATH) from error
    return list(decode_keys(director).values())


def _teams(targets: Targets) -> set[str]:
    named = (targets.delegations.roles if targets.delegations else None) or {}
    for role, entry in named.items():
        if not role.startswith(_TEAM) or entry.paths != roles.team_paths(slug(role.removeprefix(_TEAM), what="team")):
            raise Invalid("only teams can be named, for their own paths", element=role, remedy="use: edgefleet keys")
        if not entry.terminating:
            raise Invalid("what a team does not list would be looked for elsewhere", element=role)
    return set(named)


def _of_root(root: Root) -> dict[str, list[Key]]:
    return {role: [root.keys[keyid] for keyid in entry.keyids] for role, entry in root.roles.items()}


def _apart(holders: Mapping[str, Iterable[Key]]) -> None:
    """No key is in two roles, where its thief would have both, nor in one role under two ids, where it counts twice."""
    of: dict[str, str] = {}
    for role, keys in holders.items():
        for key in keys:
            if key.scheme not in KINDS:
                raise Invalid(
                    f"key {key.keyid[:12]} is of the kind {key.scheme[:40]}",
                    element=role,
                    remedy="make an Ed25519 or P-256 key",
                )
            material = str(key.to_dict()["keyval"])
            if material in of:
                raise Invalid(
                    f"key {key.keyid[:12]} is a key of {of[material]} already",
                    element=role,
                    remedy="make a key of its own for each role",
                )
            of[material] = role


def _lacking(whose: str, found: Verified) -> list[str]:
    if found:
        return []
    waiting = ", ".join(sorted(keyid[:12] for keyid in found.unsigned))
    return [f"{len(found.signed)} of {found.threshold} {whose} signed; not yet: {waiting}"]
