"""Verifying one file of metadata inside python-tuf's workflow, and not again while neither it nor its keys change.

A device reads its cache at each order, and nearly all of that is what it verified at the one before. Of each role the
newest file is remembered, of bins none: they are many, and an order needs few.
"""

import hashlib
from typing import NamedTuple, TypeVar

from securesystemslib.signer import Signature
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from modules.trust import roles

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)

_Result = tuple[Signed, bytes, dict[str, Signature]]


class _Grounds(NamedTuple):
    """All that a verification rests on: the file's bytes, and which keys must sign it, how many of them."""

    sha256: bytes
    threshold: int
    keys: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...]


class Verified:
    """Called by python-tuf in place of its own function that parses and verifies a file."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[_Grounds, _Result]] = {}

    def __call__(
        self, role: type[T], data: bytes, delegator: Root | Targets | None = None, role_name: str | None = None
    ) -> tuple[T, bytes, dict[str, Signature]]:
        """The content, the bytes that were signed, and the signatures; without a delegator nothing is verified.

        Raises:
            RepositoryError: it is of another kind, cannot be read, or too few of its keys signed.
        """
        name = role_name or role.type
        grounds = _grounds(data, delegator, name) if delegator and role is not Root and not roles.is_bin(name) else None
        known = self._newest.get(name)
        if known is not None and known[0] == grounds:
            signed, content, signatures = known[1]
            if isinstance(signed, role):
                return signed, content, signatures
        file = Metadata[T].from_bytes(data)
        if file.signed.type != role.type:
            raise RepositoryError(f"Expected '{role.type}', got '{file.signed.type}'")
        content = file.signed_bytes
        if delegator is not None:
            delegator.verify_delegate(name, content, file.signatures)
        if grounds is not None:
            self._newest[name] = grounds, (file.signed, content, file.signatures)
        return file.signed, content, file.signatures


def _grounds(data: bytes, delegator: Root | Targets, name: str) -> _Grounds | None:
    """None where the delegator names a key that it does not have, or does not delegate the role."""
    try:
        role = delegator.get_delegated_role(name)
        keys = [delegator.get_key(keyid) for keyid in role.keyids]
    except ValueError:
        return None
    stated = sorted((key.keyid, key.keytype, key.scheme, tuple(sorted(key.keyval.items()))) for key in keys)
    return _Grounds(hashlib.sha256(data).digest(), role.threshold, tuple(stated))
