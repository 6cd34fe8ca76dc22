"""The folder in which an instance makes its socket: the module's for the moment that it needs, then closed to it.

It lies on the host, and the module can write to it, so it is the only place where a module could fill the host's disk
or put something in the way of whoever looks for its socket. It needs that for one bind alone. Once the module is ready
the folder is sealed: nothing but the socket is in it, and its group, which is the module's, may no longer write. Until
then each file is bounded by a limit of the container, and where the folder lies on a tmpfs (/run), all of them by the
memory that the module was granted.
"""

import contextlib
import itertools
import logging
import math
import os
import secrets
import stat
import time
from pathlib import Path
from typing import Final

from agent.engines.contract import SOCKET
from modules.errors import OverLimit

_log = logging.getLogger(__name__)
# The container's user makes its socket here, with the gateway's group.
OPEN: Final = 0o2770
SEALED: Final = 0o2750
_NAMED: Final = 3
# So long may a module that still runs keep the agent removing; the rest goes when it has ended.
_SEALS_WITHIN_S: Final = 5.0
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(folder: Path, group: int) -> None:
    """Make the folder, open to the module."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, -1, group)
    folder.chmod(OPEN)


def seal(folder: Path) -> None:
    """Close the folder to the module, which is ready.

    Raises:
        OverLimit: there is something else in it than the module's socket; it was removed, as far as that is quick.
        FileNotFoundError: the folder has gone.
    """
    folder.chmod(SEALED)
    # Looked at afterwards, when nothing can be added any more.
    with os.scandir(folder) as entries:
        strange = (entry.name for entry in entries if entry.name != SOCKET or not _is_socket(folder / SOCKET))
        foreign = list(itertools.islice(strange, _NAMED))
    if foreign or not _is_socket(folder / SOCKET):
        _empty(folder, spare=SOCKET if _is_socket(folder / SOCKET) else "", within_s=_SEALS_WITHIN_S)
        named = ", ".join(foreign) or "no socket"
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
        _empty(folder)
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("%s: what a module left there cannot be removed, remove it as root: %s", folder, error)


def _empty(folder: Path, *, spare: str = "", within_s: float = math.inf) -> None:
    """Remove what is in a folder, but for one name, as far as that can be done.

    A million files, or folders within folders a million deep, cost time and no memory: a folder that is met is moved
    to the top under a number, and its turn comes. What stands in the way is left behind.
    """
    ends, mark, lifted = time.monotonic() + within_s, f".{secrets.token_hex(8)}-", 0

    def drop(name: str, within: int) -> None:
        nonlocal lifted
        try:
            os.unlink(name, dir_fd=within)
        except IsADirectoryError:
            os.rename(name, f"{mark}{lifted}", src_dir_fd=within, dst_dir_fd=top)
            lifted += 1

    def drop_all(within: int) -> None:
        with os.scandir(within) as entries:
            for entry in entries:
                if time.monotonic() > ends:
                    return
                if entry.name != spare and not entry.name.startswith(mark):
                    with contextlib.suppress(OSError):
                        drop(entry.name, within)

    top = os.open(folder, _FOLDER)
    try:
        drop_all(top)
        number = 0
        while number < lifted and time.monotonic() <= ends:
            with contextlib.suppress(OSError):
                inner = os.open(f"{mark}{number}", _FOLDER, dir_fd=top)
                try:
                    drop_all(inner)
                finally:
                    os.close(inner)
                os.rmdir(f"{mark}{number}", dir_fd=top)
            number += 1
    finally:
        os.close(top)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False
