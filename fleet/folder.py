"""The data folder: which file lies where, and that only its owner can read it."""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ONLINE_ROLES: Final = ("snapshot", "timestamp", "director")


@dataclass(frozen=True)
class Folder:
    """Paths below one folder of mode 0700.

    ``ca`` issues devices and servers; ``service_ca`` issues services alone, so that on the services' listener no
    device certificate can pass for one.
    """

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "fleet.sqlite"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def operator_token(self) -> Path:
        return self.root / "operator-token"

    @property
    def ca(self) -> Path:
        return self.root / "ca.pem"

    @property
    def service_ca(self) -> Path:
        return self.root / "service-ca.pem"

    @property
    def server(self) -> Path:
        return self.root / "server.pem"

    @property
    def service(self) -> Path:
        return self.root / "service.pem"

    @property
    def broker(self) -> Path:
        return self.root / "broker.pem"

    @property
    def revoked(self) -> Path:
        """The list of revoked certificates."""
        return self.root / "revoked.pem"

    @property
    def audit_heads(self) -> Path:
        """Signed heads of the audit log, one in a line, for shipping."""
        return self.root / "audit-heads.jsonl"

    @property
    def unfinished(self) -> Path:
        """There from the first to the last moment of the first run: what lies beside it was never used."""
        return self.root / "init-not-finished"

    @property
    def made_at_first(self) -> tuple[Path, ...]:
        """The files of the first run."""
        issued = (self.ca, self.server, self.broker, self.service_ca, self.service)
        rows = (self.database.with_name(self.database.name + suffix) for suffix in ("", "-wal", "-shm"))
        keys = (*map(self.key, issued), *map(self.online_key, ONLINE_ROLES))
        return (*issued, *keys, *rows, self.operator_token)

    @property
    def broker_place(self) -> Path:
        """Says in which folder of this machine the broker's configuration was written last."""
        return self.root / "broker-folder"

    @property
    def offline_keys_at(self) -> Path:
        """Says in which folder of this machine the owner made the offline keys, if it was on this machine."""
        return self.root / "offline-keys-at"

    def online_key(self, role: str) -> Path:
        return self.root / f"tuf-{role}.key"

    def staged_key(self, role: str) -> Path:
        """A new key that the owner has not named yet."""
        return self.root / f"tuf-{role}.next.key"

    @staticmethod
    def key(certificate: Path) -> Path:
        """The private key that belongs to a certificate file."""
        return certificate.with_suffix(".key")


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read, durably.

    Raises:
        FileExistsError: never overwrites a key.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make names that were just given in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one step, durably, for the owner of its folder: the broker's may be another account."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        owner = path.parent.stat()
        if owner.st_uid != os.geteuid():
            os.chown(draft, owner.st_uid, owner.st_gid)
        Path(draft).replace(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            Path(draft).unlink()
        raise
