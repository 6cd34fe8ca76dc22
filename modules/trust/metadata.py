"""One file of trust metadata: read within its bounds, held against who must sign it and the one before, and sealed."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from modules.errors import Invalid, Untrusted
from modules.trust import roles

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

# Names of files have nine digits for it.
HIGHEST_VERSION: Final = 100_000_000


def read(data: bytes, kind: type[T], role: str) -> Metadata[T]:
    """Metadata of this kind, its signatures not yet verified.

    Raises:
        Invalid: too large for the role, no metadata, or of another kind.
    """
    file = _parse(data, role)
    if not isinstance(file.signed, kind):
        raise Invalid(f"this is {file.signed.type} metadata, not {kind.type}", element=role)
    return file


def version(data: bytes, role: str) -> int:
    """The version that stands in a file of this role.

    Raises:
        Invalid: as :func:`read`.
    """
    return int(_parse(data, role).signed.version)


def verify(delegator: Root | Targets, role: str, file: Metadata[T]) -> None:
    """Accept metadata that is signed as its delegator demands.

    Raises:
        Untrusted: the role is not delegated, or too few of its keys signed; the message says which have and have not.
    """
    try:
        result = delegator.get_verification_result(role, file.signed_bytes, file.signatures)
    except ValueError as error:
        raise Untrusted("no role delegates it", element=role, remedy="have the owner delegate it") from error
    if not result:
        raise Untrusted(
            f"{len(result.signed)} of {result.threshold} signatures hold: signed by {_ids(file.signatures)}, "
            f"valid {_ids(result.signed)}, may sign {_ids({**result.signed, **result.unsigned})}",
            element=role,
            remedy="sign it with a key of this role",
        )


def check_next(role: str, before: Metadata[T] | None, file: Metadata[T], now: datetime, *, skip: bool = False) -> None:
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
    due = before.signed.version + 1 if before is not None else 1
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


def seal(file: Metadata[T], role: str, signers: Sequence[Signer], now: datetime) -> bytes:
    """The file's bytes, alive from ``now``, signed by all of the signers and by nobody else.

    Raises:
        Invalid: there is no signer, or the file would be larger than devices accept.
    """
    if not signers:
        raise Invalid("it has no signer", element=role, remedy="give a signer")
    file.signed.expires = now + roles.life(role)
    file.signatures.clear()
    for signer in signers:
        file.sign(signer, append=True)
    return checked(file.to_bytes(), role)


def checked(data: bytes, role: str) -> bytes:
    """The same bytes, if they are no more than devices accept.

    Raises:
        Invalid: they are.
    """
    _check_size(data, role)
    return data


def _parse(data: bytes, role: str) -> Metadata[Any]:
    _check_size(data, role)
    try:
        return Metadata.from_bytes(data)
    except DeserializationError as error:
        raise Invalid(f"not valid trust metadata: {error.__cause__ or error}", element=role) from error


def _check_size(data: bytes, role: str) -> None:
    if len(data) > roles.limit(role):
        raise Invalid(
            f"{len(data)} bytes are more than the {roles.limit(role)} that devices accept",
            element=role,
            remedy="spread the releases over more teams",
        )


def _ids(keyids: Iterable[str]) -> str:
    return ", ".join(sorted(keyid[:12] for keyid in keyids)) or "nobody"
