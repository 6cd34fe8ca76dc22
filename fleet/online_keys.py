"""The keys that the server itself signs with: one in force for each role, and beside it one that waits to be named.

A key is made here and never leaves (``edgefleet-fleet keys new ROLE``). It is used from the moment that the owner's
metadata names it, and the one before is deleted then. What is in force is decided by what the owner has signed, never
by a file's name, so a stop between the two moments harms nothing.
"""

import os
import threading
from collections.abc import Collection, Mapping
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Key

from fleet.folder import ONLINE_ROLES, Folder, sync_folder, write_secret
from modules.errors import BadSettings
from modules.signing import signer_from_pem

_AGAIN: Final = "have the owner name it: edgefleet keys rotate {role}; to make another, remove {path} first"


class OnlineKeys:
    """The key files of one data folder; used from any thread."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._present = {role: _load(folder, role) for role in ONLINE_ROLES}

    def present(self, role: str) -> CryptoSigner:
        """The one in force: the file's, which another server on this folder may have put there."""
        return self._stored(role) or self._present[role]

    def staged(self) -> Mapping[str, Key]:
        """The public keys that wait to be named, by role; read anew, because another program makes them."""
        found = {}
        for role in ONLINE_ROLES:
            if (waiting := self._waiting(role)) is not None:
                found[role] = waiting.public_key
        return found

    def named(self, role: str, keyids: Collection[str]) -> CryptoSigner | None:
        """The server's key among those that the owner's metadata names, the newest first; None where none is here."""
        with self._lock:
            for signer in (self._waiting(role), self._present[role], self._stored(role)):
                if signer is not None and signer.public_key.keyid in keyids:
                    return signer
        return None

    def settle(self, role: str, keyids: Collection[str]) -> None:
        """Put a named key in the place of one that is named no more, which is deleted with that."""
        with self._lock:
            waiting = self._waiting(role)
            if waiting is not None and waiting.public_key.keyid in keyids:
                self._folder.staged_key(role).replace(self._folder.online_key(role))
                sync_folder(self._folder.root)
            self._present[role] = self._stored(role) or self._present[role]

    def _waiting(self, role: str) -> CryptoSigner | None:
        path = self._folder.staged_key(role)
        return signer_from_pem(path.read_bytes(), element=str(path)) if path.exists() else None

    def _stored(self, role: str) -> CryptoSigner | None:
        """The file's key: of two servers on one folder the other may have put a new one there."""
        path = self._folder.online_key(role)
        return signer_from_pem(path.read_bytes(), element=str(path)) if path.exists() else None


def stage(folder: Folder, role: str) -> Key:
    """Make a new key for a role, beside the one in force; its public half.

    Raises:
        BadSettings: there is no such fleet, no such role, or a key that waits already.
    """
    if role not in ONLINE_ROLES:
        raise BadSettings(
            "the server holds no key of this role", element=role, remedy=f"name {', '.join(ONLINE_ROLES)}"
        )
    if not folder.online_key(role).exists():
        raise BadSettings("there is no fleet here", element=str(folder.root), remedy="make one with: init")
    path = folder.staged_key(role)
    draft = path.with_suffix(f".{os.getpid()}")
    write_secret(draft, new_online_key())
    try:
        owner = folder.root.stat()
        if owner.st_uid != os.geteuid():
            os.chown(draft, owner.st_uid, owner.st_gid)  # made by an administrator, and read by the server's account
        path.hardlink_to(draft)  # whole, or not at all: a server may look at any moment
    except FileExistsError as error:
        raise BadSettings(
            "a new key waits already", element=str(path), remedy=_AGAIN.format(role=role, path=path.name)
        ) from error
    finally:
        draft.unlink()
    sync_folder(folder.root)
    return signer_from_pem(path.read_bytes(), element=str(path)).public_key


def new_online_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(folder: Folder, role: str) -> CryptoSigner:
    path = folder.online_key(role)
    try:
        return signer_from_pem(path.read_bytes(), element=str(path))
    except OSError as error:
        raise BadSettings(str(error), element=str(path), remedy="make the data folder with: init") from error
