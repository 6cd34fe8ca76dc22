"""Whether a file is another one than before, whoever put it there and whatever its date says."""

from pathlib import Path

Stamp = tuple[int, int, int]


def stamp(file: Path) -> Stamp:
    """What changes with a file that is replaced: a copy may keep the date of what it was made from.

    Raises:
        OSError: it is not there.
    """
    found = file.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size
