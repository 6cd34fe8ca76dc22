"""The table of trust metadata: every file as the bytes that were signed, by role and version."""

from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select
from tuf.api.metadata import Metadata, Targets
from tuf.api.serialization import DeserializationError

from fleet.refusals import Conflict
from fleet.tables import tuf_metadata
from modules.errors import Invalid
from modules.names import Slug
from modules.trust import roles

# A device that began to refresh a moment ago still asks for the versions of that moment.
KEPT: Final = 20


def read(connection: Connection, role: str, version: int | None = None) -> bytes | None:
    """One version, or the newest."""
    chosen = select(tuf_metadata.c.data).where(tuf_metadata.c.role == role)
    if version is not None:
        chosen = chosen.where(tuf_metadata.c.version == version)
    return connection.execute(chosen.order_by(tuf_metadata.c.version.desc()).limit(1)).scalar_one_or_none()


def founded(connection: Connection) -> tuple[bytes, bytes]:
    """The newest root and targets.

    Raises:
        Conflict: the fleet has none yet.
    """
    root, targets = read(connection, roles.ROOT), read(connection, roles.TARGETS)
    if root is None or targets is None:
        raise Conflict("this fleet has no root of trust yet", element="root", remedy="run: edgefleet keys init")
    return root, targets


def versions(connection: Connection) -> dict[str, int]:
    """The newest version of every role."""
    newest = select(tuf_metadata.c.role, func.max(tuf_metadata.c.version)).group_by(tuf_metadata.c.role)
    return {role: int(version) for role, version in connection.execute(newest)}


def write(connection: Connection, role: str, data: bytes) -> None:
    """Add a version, if it is new; of all but root, old ones go."""
    added = version(data)
    newest = connection.execute(
        select(func.max(tuf_metadata.c.version)).where(tuf_metadata.c.role == role)
    ).scalar_one_or_none()
    if newest is not None and added <= newest:
        return
    connection.execute(insert(tuf_metadata).values(role=role, version=added, data=data))
    if role != roles.ROOT:
        old = (tuf_metadata.c.role == role) & (tuf_metadata.c.version <= added - KEPT)
        connection.execute(delete(tuf_metadata).where(old))


def check_room(connection: Connection) -> None:
    """Take no further team's bins once the snapshot, which names them all, is near what devices accept.

    It grows a little with each version after that, and must never be refused, for then nothing could be published.

    Raises:
        Conflict: it is near.
    """
    room = roles.limit(roles.SNAPSHOT) * 3 // 4
    if len(read(connection, roles.SNAPSHOT) or b"") > room:
        raise Conflict(
            f"with the bins of one more team the snapshot would have more than {room} bytes",
            element=roles.SNAPSHOT,
            remedy=f"publish under a further team, whose role has room for {roles.MOST_IN_ONE_ROLE} releases",
        )


def version(data: bytes) -> int:
    """The version that stands in a file.

    Raises:
        Invalid: it is no trust metadata.
    """
    return int(_envelope(data).signed.version)


def listing(data: bytes) -> Targets:
    """What a file of targets or of a team lists.

    Raises:
        Invalid: it is no such metadata.
    """
    signed = _envelope(data).signed
    if not isinstance(signed, Targets):
        raise Invalid("this is not targets metadata", element="metadata")
    return signed


def signers(connection: Connection, team: Slug, path: str) -> list[str]:
    """The ids of the team's keys by which the newest file that lists a path is signed; none where none lists it."""
    role = roles.team_role(team)
    owner, own = read(connection, roles.TARGETS), read(connection, role)
    if owner is None or own is None:
        return []
    delegator = listing(owner)
    if listing(own).delegations is not None:
        role, delegator = roles.bin_of(team, path), listing(own)
        own = read(connection, role)
    if own is None or path not in listing(own).targets:
        return []
    file = _envelope(own)
    return sorted(delegator.get_verification_result(role, file.signed_bytes, file.signatures).signed)


def _envelope(data: bytes) -> Metadata[Any]:
    try:
        return Metadata.from_bytes(data)
    except DeserializationError as error:
        raise Invalid("not valid trust metadata", element="metadata") from error


def _version(data: bytes) -> int:
    return int(_envelope(data).signed.version)


def _targets(data: bytes) -> Targets:
    signed = _envelope(data).signed
    if not isinstance(signed, Targets):
        raise Invalid("this is not targets metadata", element="metadata")
    return signed
