"""A new file for what a device sent: named by this user alone, never written over anything, readable by nobody else."""

import os
from pathlib import Path

from modules.errors import BadSettings


def check_new(file: Path) -> None:
    """Before a device is asked for something.

    Raises:
        BadSettings: there is something of that name.
    """
    if os.path.lexists(file):
        raise _there(file)


def write_new(file: Path, data: bytes) -> None:
    """Write it, 0600; nothing is left where that fails.

    Raises:
        BadSettings: there is something of that name, a link that leads nowhere included.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise _there(file) from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _there(file: Path) -> BadSettings:
    return BadSettings("there is such a file already", element=str(file), remedy="name a new one: --out FILE")
