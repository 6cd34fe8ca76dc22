"""Bins: where the releases of a large team stand, so that a device fetches one of 256 files and not all of them.

The team's role then delegates to them by python-tuf's succinct roles (TAP 15), by the hash of the release's path. It
keeps the floors itself: whoever could play an old bin back hides releases by it, which only delays, but no floor. The
role's own delegation bounds the paths (``*`` crosses no slash), so a bin is never asked about another team's. Who may
sign bins is said by the owner's targets alone, and the names of bins are the team's: both are checked here, since
python-tuf would follow whatever a team's key signs.
"""

from securesystemslib.signer import Key
from tuf.api.metadata import Delegations, SuccinctRoles, Targets

from modules.errors import Untrusted
from modules.names import Slug
from modules.trust import roles


def delegation(team: Slug, owner: Targets) -> Delegations:
    """What the team's role says of its bins: the keys that the owner's targets metadata names for the team.

    Raises:
        Untrusted: the owner has not named the team.
    """
    keys, threshold = _named(team, owner)
    return Delegations(
        keys, succinct_roles=SuccinctRoles(sorted(keys), threshold, roles.BIN_BITS, roles.bins_prefix(team))
    )


def check_delegation(team: Slug, role: Targets, owner: Targets) -> None:
    """Accept a team's role that delegates nothing, or to its own bins, by keys that the owner named for the team.

    A key that the owner has added since may be missing; one that was withdrawn may not be there any more.

    Raises:
        Untrusted: it delegates anything else.
    """
    found = role.delegations
    if found is None:
        return
    keys, threshold = _named(team, owner)
    bins = found.succinct_roles
    if bins is None or (bins.bit_length, bins.name_prefix) != (roles.BIN_BITS, roles.bins_prefix(team)):
        raise Untrusted(
            "a team delegates to its own bins and to nobody else",
            element=roles.team_role(team),
            remedy="ask the owner for a team of its own",
        )
    stated = {keyid: found.keys.get(keyid) for keyid in bins.keyids}
    if bins.threshold < threshold or any(keyid not in keys or keys[keyid] != key for keyid, key in stated.items()):
        raise Untrusted(
            "other keys may sign its bins than the owner named for the team",
            element=roles.team_role(team),
            remedy="sign the team's metadata again, all of it",
        )


def check_bin(name: str, found: Targets) -> None:
    """Accept a bin that leads nowhere else.

    Raises:
        Untrusted: it delegates further.
    """
    if found.delegations is not None:
        raise Untrusted("a bin delegates to nobody", element=name, remedy="sign the team's metadata again, all of it")


def _named(team: Slug, owner: Targets) -> tuple[dict[str, Key], int]:
    role = roles.team_role(team)
    delegated = owner.delegations.roles.get(role) if owner.delegations and owner.delegations.roles else None
    if owner.delegations is None or delegated is None:
        raise Untrusted("no role delegates it", element=role, remedy="have the owner delegate it")
    return {keyid: owner.delegations.keys[keyid] for keyid in delegated.keyids}, delegated.threshold
