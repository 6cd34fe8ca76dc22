"""One agent for each state folder and each runtime folder: a lock that its process holds, and that says who.

A second agent on the same state folder would take the broker session from the first, and both would write the same
rows; on the same runtime folder it would remove the sockets of the first one's modules. The kernel lets go of the lock
when the process ends, however it ends.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from modules.errors import BadSettings

LOCK: Final = "agent.lock"


@contextmanager
def occupied(
    folder: Path, *, make: bool = False, otherwise: str = "stop it first: systemctl stop edgefleet-agent"
) -> Iterator[None]:
    """Hold the folder while the ``with`` body runs; with ``make``, one that is missing is made.

    On a folder that is read-only the lock cannot be had; the agent goes on without, for what serves must go on.

    Raises:
        BadSettings: another agent runs on this folder; the message names its process, and what to do: ``otherwise``.
    """
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno == errno.EROFS:
            yield
            return
        raise BadSettings(
            f"this folder cannot be written: {error.strerror}", element=str(folder), remedy="run it as its owner"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadSettings(
                f"an agent runs on this folder already (process {_pid(descriptor) or 'unknown'})",
                element=str(folder),
                remedy=otherwise,
            ) from error
        # Who holds it is for people alone: on a full disk the lock holds all the same.
        _say(descriptor)
        yield
    finally:
        os.close(descriptor)


def holder(state: Path) -> int | None:
    """The process id of the agent that runs on this folder; None where none does, 0 where it does not say."""
    try:
        descriptor = os.open(state / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _say(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise


def _pid(descriptor: int) -> int:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else 0
