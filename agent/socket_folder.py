"""The folder in which an instance makes its socket: the module's for the moment that it needs, then closed to it.

It lies on the host, and the module can write to it, so it is the only place where a module could fill the host's disk
or put something in the way of whoever looks for its socket. It needs that for one bind alone. Once the module is ready
the folder is sealed: nothing but the socket is in it, and its group, which is the module's, may no longer write. Until
then each file is bounded by a limit of the container, and where the folder lies on a tmpfs (/run), all of them by the
memory that the module was granted.
"""

import logging
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from agent.engines.contract import SOCKET
from modules.errors import OverLimit

_log = logging.getLogger(__name__)
# The container's user makes its socket here, with the gateway's group.
OPEN: Final = 0o2770
SEALED: Final = 0o2750
_NAMED: Final = 3


def make(folder: Path, group: int) -> None:
    """Make the folder, open to the module."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, -1, group)
    folder.chmod(OPEN)


def seal(folder: Path) -> None:
    """Close the folder to the module, which is ready.

    Raises:
        OverLimit: there is something else in it than the module's socket; it was removed.
        FileNotFoundError: the folder has gone.
    """
    folder.chmod(SEALED)
    # Looked at afterwards, when nothing can be added any more.
    foreign = sorted(path for path in folder.iterdir() if path.name != SOCKET or not _is_socket(path))
    for path in foreign:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink()
    if foreign or not (folder / SOCKET).exists():
        named = ", ".join(path.name for path in foreign[:_NAMED]) or "no socket"
        raise OverLimit(
            f"it left something else than its socket in the folder of its socket: {named!r}",
            element="socket folder",
            remedy="a module writes to /tmp alone",
        )


def clear(folder: Path) -> None:
    """Remove the folder of an instance that has ended, with all that it left there.

    What a module has made so that only its own user may remove it stays, and is said; it must hold up nothing.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("%s: what a module left there cannot be removed, remove it as root: %s", folder, error)


def _is_socket(path: Path) -> bool:
    return stat.S_ISSOCK(path.lstat().st_mode)
