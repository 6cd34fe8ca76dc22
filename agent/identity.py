"""Who this device is: id, key, certificate, the fleet's CA and the TUF root, in one folder of mode 0700.

``enroll`` writes it once; nothing from the network ever replaces the CA or the root. A renewal (agent/renewal.py)
brings another key with its certificate, both in one file, so that they change together or not at all: first as
``NEXT``, and once the broker has let the device in with it, under the name ``PAIR``, which then counts instead of the
two files of the enrolment.
"""

import contextlib
import os
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import BadSettings
from modules.names import DeviceField
from modules.protocol.enrollment import Broker

KEY: Final = "key.pem"
CERTIFICATE: Final = "certificate.pem"
PAIR: Final = "identity.pem"
NEXT: Final = "next.pem"
NEXT_KEY: Final = "next-key.pem"
# A next pair that is not this device's, until its renewal is done all the same.
ASIDE: Final = "next.refused.pem"
CA: Final = "ca.pem"
ROOT: Final = "root.json"
DEVICE: Final = "device.json"


_CERTIFICATE_BEGINS: Final = b"-----BEGIN CERTIFICATE-----"


class Pair(NamedTuple):
    """Where a certificate and its key lie: in two files, or both in one."""

    certificate: Path
    key: Path


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``device.json``; ``blob_url`` as in the join bundle."""

    device: DeviceField
    fleet: str
    broker: Broker
    blob_url: str = ""


def load(folder: Path) -> Identity:
    """Read the device's identity.

    Raises:
        BadSettings: the device is not enrolled, or the folder is damaged.
    """
    try:
        identity = msgspec.json.decode((folder / DEVICE).read_bytes(), type=Identity)
    except FileNotFoundError as error:
        raise BadSettings(
            "this device is not enrolled", element=str(folder), remedy="run edgefleet-agent enroll JOIN-BUNDLE"
        ) from error
    except UNREADABLE as error:
        raise BadSettings(str(error), element=str(folder / DEVICE), remedy="enrol again") from error
    except OSError as error:
        raise BadSettings(
            f"the identity cannot be read: {error.strerror}", element=str(folder), remedy="run it as the agent's user"
        ) from error
    for name in (*({path.name for path in present(folder)}), CA, ROOT):
        if not (folder / name).is_file():
            raise BadSettings("a part of the identity is missing", element=str(folder / name), remedy="enrol again")
    return identity


def present(folder: Path) -> Pair:
    """What the device is known by."""
    both = folder / PAIR
    return Pair(both, both) if both.exists() else Pair(folder / CERTIFICATE, folder / KEY)


def upcoming(folder: Path) -> Pair | None:
    """What it will be known by, once the broker has let it in with that; None where no renewal has come so far."""
    both = folder / NEXT
    return Pair(both, both) if both.exists() else None


def key_of(data: bytes) -> bytes:
    """The key's part of a file that may have its certificate behind it."""
    return data.partition(_CERTIFICATE_BEGINS)[0]


def certificate_of(data: bytes) -> bytes:
    """The certificate's part of a file that may have its key before it."""
    _, begins, rest = data.partition(_CERTIFICATE_BEGINS)
    return begins + rest


def promote(folder: Path) -> None:
    """From now on the device is known by its next pair; what it was known by before goes.

    Raises:
        OSError: it could not be done; then both are still there.
    """
    (folder / NEXT).replace(folder / PAIR)
    sync_folder(folder)
    tidy(folder)


def tidy(folder: Path) -> None:
    """Take away the pair of before, which counts no more; where that fails, it lies there until the next start."""
    former = [folder / name for name in (KEY, CERTIFICATE) if (folder / name).exists()]
    if former and (folder / PAIR).exists():
        with contextlib.suppress(OSError):
            for path in former:
                path.unlink()
            sync_folder(folder)


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 so that it is whole or not there, synced."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make names that were just created or renamed in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
