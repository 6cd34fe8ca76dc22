"""Secrets as files for one instance: opened in memory, written to a tmpfs, never to a disk.

Each instance has a folder of its own below one that only the agent may enter; a container sees that folder alone,
mounted read-only at ``/run/secrets``. The files belong to the agent and are readable for the group of the modules, as
an instance's user is no account of this machine.

What belongs together, a certificate and its key, is never seen half new: the files are links into ``..data``, which is
itself a link to the folder of one version of all of them, and is replaced by one rename, as Kubernetes does it. Whoever
opens a file reads the one or the other; whoever opens ``..data`` and reads from there has them all of one version.

What cannot be kept out of a swap partition, this cannot either: encrypt it, or have none.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Final

from agent.sealing_key import private
from modules import sealing
from modules.errors import NeedsOperator
from modules.names import DeviceId
from modules.protocol.order import Secret

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_FOLDER: Final = 0o750
_FILE: Final = 0o440
# No secret's name begins so.
_CURRENT: Final = "..data"


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
    _make_folder(folder, group)
    fresh = folder / f"..{token_hex(8)}"
    _make_folder(fresh, group)
    for name, data in secrets.items():
        _write(fresh / name, data, group)
    _link(folder / _CURRENT, fresh.name)
    for name in secrets:
        _link(folder / name, f"{_CURRENT}/{name}")
    for entry in folder.iterdir():
        if entry.name in {_CURRENT, fresh.name, *secrets}:
            continue
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _make_folder(folder: Path, group: int) -> None:
    folder.mkdir(exist_ok=True)
    os.chown(folder, -1, group)
    folder.chmod(_FOLDER)


def _write(path: Path, data: bytes, group: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, _FILE)
        stream.write(data)


def _link(path: Path, target: str) -> None:
    """Make the path a link there in one step, whatever it was."""
    partial = path.with_name("..link")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
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
