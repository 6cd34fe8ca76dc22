"""What lets clients into an endpoint, encrypted in its row, so that a copy of the database lets nobody in."""

import base64
import hashlib
import hmac
import secrets
import string
from collections.abc import Mapping
from typing import Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fleet.folder import Folder
from fleet.targets.pairs import check_pair
from modules.errors import Invalid, NeedsOperator

_BYTES: Final = 32
_LETTERS: Final = frozenset(string.ascii_letters + string.digits + "-_")
_LENGTHS: Final = range(16, 129)


class ModuleSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that its modules are given (fleet/targets/module_secrets.py)."""

    value: bytes
    version: int
    at: float
    by: str = ""


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """Two keys, so that one can be changed while clients use the other; the secret of tokens; the key of its TLS.

    ``issued`` is a certificate of the fleet's own authority, with its key, where the operator has given none.
    ``modules`` are those that its modules get as files, by name.
    """

    primary: str
    secondary: str
    token_secret: bytes
    certificate_key: str = ""
    issued: str = ""
    issued_key: str = ""
    modules: dict[str, ModuleSecret] = {}

    def with_issued(self, certificate: str, key: str) -> "Secrets":
        return msgspec.structs.replace(self, issued=certificate, issued_key=key)


def made(*, primary: str = "", secondary: str = "", certificate_key: str = "") -> Secrets:
    """New ones, where none are given."""
    return Secrets(
        primary=primary or new_key(),
        secondary=secondary or new_key(),
        token_secret=secrets.token_bytes(_BYTES),
        certificate_key=certificate_key,
    )


def new_key() -> str:
    return secrets.token_urlsafe(_BYTES)


def checked(given: Secrets, certificate: str) -> Secrets:
    """The secrets, if they are usable, with this certificate or without one.

    Raises:
        Invalid: a key is too short, too long or has other letters; or a certificate lacks its key, or is not its own.
    """
    for name in ("primary", "secondary"):
        key = getattr(given, name)
        if len(key) not in _LENGTHS or set(key) - _LETTERS:
            raise Invalid("a key is not usable", element=f"{name} key", remedy="use 16 to 128 letters, digits, - and _")
    if given.primary == given.secondary:
        raise Invalid("both keys are the same", element="keys", remedy="give two, or none")
    if certificate:
        check_pair(certificate, given.certificate_key)
    return given


class Sealer:
    """Encrypts for the servers of this fleet, by a key that follows from the one of its authority.

    Args:
        folder: with the authority's key.
    """

    def __init__(self, folder: Folder) -> None:
        # HKDF (RFC 5869): the authority's key signs, and what follows from it encrypts, without one telling the other.
        own = folder.key(folder.ca).read_bytes()
        self._box = Fernet(base64.urlsafe_b64encode(_derived(own, b"edgefleet endpoint secrets 1")))
        self._jobs = _derived(own, b"edgefleet batch jobs 1")

    def of_job(self, mark: str) -> bytes:
        """The secret of one batch job, which no row has to keep."""
        return hmac.digest(self._jobs, mark.encode(), hashlib.sha256)

    def seal(self, opened: Secrets) -> bytes:
        return self._box.encrypt(msgspec.msgpack.encode(opened))

    def seal_for_job(self, mark: str, given: Mapping[str, bytes]) -> bytes:
        """Secrets of a batch job's module, for this job alone."""
        return self._box_of_job(mark).encrypt(msgspec.msgpack.encode(dict(given)))

    def open_for_job(self, mark: str, sealed: bytes, *, job: str) -> dict[str, bytes]:
        """What was sealed for it.

        Raises:
            NeedsOperator: by another fleet's server, or for another job.
        """
        plain = _decrypted(self._box_of_job(mark), sealed, f"batch job {job}")
        return msgspec.msgpack.decode(plain, type=dict[str, bytes])

    def open(self, sealed: bytes, *, endpoint: str) -> Secrets:
        """What was sealed.

        Raises:
            NeedsOperator: by another fleet's server.
        """
        return msgspec.msgpack.decode(_decrypted(self._box, sealed, f"endpoint {endpoint}"), type=Secrets)

    def _box_of_job(self, mark: str) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(hmac.digest(self.of_job(mark), b"module secrets 1", hashlib.sha256)))


def _decrypted(box: Fernet, sealed: bytes, element: str) -> bytes:
    try:
        return box.decrypt(sealed)
    except InvalidToken as error:
        raise NeedsOperator(
            "what it keeps was encrypted by a server with another authority's key",
            element=element,
            remedy="give this server the data folder that belongs to its database",
        ) from error


def _derived(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_BYTES, salt=None, info=info).derive(key)
