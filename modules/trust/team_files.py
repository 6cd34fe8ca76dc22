"""All metadata files of one team by role name: its role, and of a large team the bins below it (modules/trust/bins.py).

A publisher changes them here. Each function returns the files that are new, which the fleet server takes all together
or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Targets

from modules.names import Slug, Version
from modules.trust import bins, drafts, metadata, repository, roles


def release(
    files: Mapping[str, bytes],
    *,
    team: Slug,
    path: str,
    data: bytes,
    targets: bytes,
    signers: Sequence[Signer],
    now: datetime,
    most: int | None = None,
) -> dict[str, bytes]:
    """One more release. The one that is more than ``most`` moves all of them into bins.

    A role whose releases stand in bins changes seldom, so it is renewed with a release once half its life is over.

    Args:
        files: the team's role and, where it has bins, the one of this path.
        team: whose they are.
        path: the manifest's target path.
        data: the manifest's bytes.
        targets: the owner's targets metadata, verified, which names the team's keys.
        signers: the team's.
        now: life begins here.
        most: how many releases the role itself may list, ``MOST_IN_ONE_ROLE`` unless given.

    Returns:
        The new files; none where the same bytes are published already.

    Raises:
        Invalid: as :func:`modules.trust.repository.add_target`.
        Untrusted: the owner changed the team's keys, and the bins were not signed again since.
    """
    role = roles.team_role(team)
    before = metadata.read(files[role], Targets, role).signed
    place = roles.bin_of(team, path) if before.delegations is not None else role
    bins.check_delegation(team, before, _owner(targets))
    after = repository.add_target(files[place], team=team, path=path, data=data, signers=signers, now=now, role=place)
    if after == files[place]:
        return {}
    if place == role:
        most = roles.MOST_IN_ONE_ROLE if most is None else most
        few = sum(not roles.is_floor(one) for one in before.targets) < most
        return {role: after} if few else _split(after, team, targets, signers, now)
    if before.expires - now > roles.life(role) / 2:
        return {place: after}
    return {place: after, role: repository.renew(files[role], role=role, signers=signers, now=now)}


def set_floor(
    files: Mapping[str, bytes], *, team: Slug, name: Slug, minimum: Version, signers: Sequence[Signer], now: datetime
) -> dict[str, bytes]:
    """The files in which no older version of this module than ``minimum`` may run any more; ``files`` are all.

    Raises:
        Invalid: as :func:`modules.trust.repository.set_floor`.
    """
    role = roles.team_role(team)
    elsewhere = published(file for other, file in files.items() if other != role)
    after = repository.set_floor(
        files[role], team=team, name=name, minimum=minimum, signers=signers, now=now, elsewhere=elsewhere
    )
    return {} if after == files[role] else {role: after}


def renew(
    files: Mapping[str, bytes], *, team: Slug, targets: bytes, signers: Sequence[Signer], now: datetime
) -> dict[str, bytes]:
    """The files that hold anew: the role alone, or with all bins after the owner has changed the team's keys.

    Args:
        files: all of the team's.
        team: whose they are.
        targets: the owner's targets metadata that is to come; it names the team's keys.
        signers: the team's.
        now: life begins here.
    """
    drafted = drafts.again_of_team(files, team=team, targets=targets, now=now)
    return {name: drafts.add_signatures(data, role=name, signers=signers) for name, data in drafted.items()}


def published(files: Iterable[bytes]) -> list[str]:
    """The paths of the releases that these files list."""
    listed = (metadata.read(data, Targets, roles.TARGETS).signed.targets for data in files)
    return [path for one in listed for path in one if not roles.is_floor(path)]


def _split(flat: bytes, team: Slug, targets: bytes, signers: Sequence[Signer], now: datetime) -> dict[str, bytes]:
    """Move the releases of a role into bins; its floors stay."""
    role = roles.team_role(team)
    file = metadata.read(flat, Targets, role)
    file.signed.delegations = bins.delegation(team, _owner(targets))
    spread = {name: Targets() for name in roles.bins(team)}
    for path in published([flat]):
        spread[roles.bin_of(team, path)].targets[path] = file.signed.targets.pop(path)
    made = {name: metadata.seal(Metadata(one), name, signers, now) for name, one in spread.items()}
    return made | {role: metadata.seal(file, role, signers, now)}


def _owner(targets: bytes) -> Targets:
    return metadata.read(targets, Targets, roles.TARGETS).signed
