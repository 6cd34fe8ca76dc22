"""A file that holds a secret: for this user alone, made before the secret is asked for."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modules.errors import BadSettings


@contextmanager
def secret_file(out: Path) -> Iterator[Callable[[bytes], None]]:
    """Open a file that this user alone may read; gone again if nothing gets into it.

    Raises:
        BadSettings: it cannot be written.
    """
    before = out.exists()
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        raise BadSettings(
            f"cannot be written: {error.strerror}", element=str(out), remedy="name another file: --out FILE"
        ) from error
    with os.fdopen(descriptor, "wb") as stream:
        plain = stat.S_ISREG(os.fstat(descriptor).st_mode)

        def write(data: bytes) -> None:
            if plain:
                os.fchmod(descriptor, 0o600)
                stream.truncate(0)
            stream.write(data)
            stream.flush()

        try:
            yield write
        except BaseException:
            if not before:
                out.unlink(missing_ok=True)
            raise


def read_secret(file: Path) -> bytes:
    """The bytes of a file as they are; a line's end belongs to them.

    Raises:
        BadSettings: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadSettings(f"cannot be read: {error.strerror}", element=str(file), remedy="name another file") from error
