"""Secrets as files for one instance: opened in memory, written to a tmpfs, never to a disk.

Each instance has a folder of its own below one that only the agent may enter; a container sees that folder alone,
mounted read-only at ``/run/secrets``. The files belong to the agent and are readable for the group of the modules, as
an instance's user is no account of this machine. A new version replaces its file by a rename, so that whoever opens it
reads the one or the other. What cannot be kept out of a swap partition, this cannot either: encrypt it, or have none.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.sealing_key import private
from modules import sealing
from modules.errors import NeedsOperator
from modules.names import DeviceId
from modules.protocol.order import Secret

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_FOLDER: Final = 0o750
_FILE: Final = 0o440


def opened(identity: Path, device: DeviceId, slot: str, secrets: Mapping[str, Secret]) -> dict[str, bytes]:
    """The secrets by name.

    Raises:
        Untrusted: one is not sealed to this device, for this slot and name.
        BadSettings: the device's key is damaged.
    """
    if not secrets:
        return {}
    key = private(identity)
    return {
        name: sealing.open_sealed(one.sealed, key, device=device, slot=slot, name=name, version=one.version)
        for name, one in secrets.items()
    }


def write(folder: Path, secrets: Mapping[str, bytes], *, group: int) -> None:
    """Make the folder hold exactly these files.

    Raises:
        NeedsOperator: it does not lie in memory.
        OSError: it cannot be written.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.parent.chmod(0o700)
    _require_memory(folder.parent)
    folder.mkdir(exist_ok=True)
    os.chown(folder, -1, group)
    folder.chmod(_FOLDER)
    for name, data in secrets.items():
        _replace(folder / name, data, group)
    for entry in folder.iterdir():
        if entry.name not in secrets:
            entry.unlink()


def _replace(path: Path, data: bytes, group: int) -> None:
    partial = path.with_name(f".{path.name}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, _FILE)
        stream.write(data)
    partial.replace(path)


def _require_memory(folder: Path) -> None:
    kind = _filesystem(folder)
    if kind not in _IN_MEMORY:
        raise NeedsOperator(
            f"secrets are written to memory alone, and this folder lies on {kind}",
            element=str(folder),
            remedy="set the agent's runtime to a folder of a tmpfs, as /run is",
        )


def _filesystem(folder: Path) -> str:
    """The kind of the file system that a folder lies on, as the kernel names it (proc_pid_mountinfo(5))."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return "a file system that the kernel does not name"
