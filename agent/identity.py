"""Who this device is: id, key, certificate, the fleet's CA and the TUF root, in one folder of mode 0700.

``enroll`` writes it once; nothing from the network ever replaces the CA or the root.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import BadSettings
from modules.names import DeviceField
from modules.protocol.enrollment import Broker

KEY: Final = "key.pem"
CERTIFICATE: Final = "certificate.pem"
CA: Final = "ca.pem"
ROOT: Final = "root.json"
DEVICE: Final = "device.json"


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
    for name in (KEY, CERTIFICATE, CA, ROOT):
        if not (folder / name).is_file():
            raise BadSettings("a part of the identity is missing", element=str(folder / name), remedy="enrol again")
    return identity


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
