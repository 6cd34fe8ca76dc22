"""Files for this user alone, whole or not there: a new one, never written over anything, and one that is replaced."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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
    with new_file(file) as stream:
        stream.write(data)


@contextmanager
def new_file(file: Path) -> Iterator[IO[bytes]]:
    """The same for what comes piece by piece: on the disk at the end, gone where that is not reached.

    Raises:
        BadSettings: as :func:`write_new`.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise _there(file) from error
    with _or_not_there(file), os.fdopen(descriptor, "wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def replace_file(file: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file in place of the one that is there."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    with _or_not_there(fresh):
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            stream.write(data)
        fresh.replace(file)


@contextmanager
def _or_not_there(file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _there(file: Path) -> BadSettings:
    return BadSettings("there is such a file already", element=str(file), remedy="name a new one")
