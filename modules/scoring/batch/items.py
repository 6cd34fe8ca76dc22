"""The inputs of a run: each file of a folder is one, except that each line of a file of JSON lines is one."""

import errno
import fnmatch
import hashlib
import os
from array import array
from bisect import bisect_right
from pathlib import Path
from typing import Final, NamedTuple

from modules.errors import BadSettings

# By the ending of the name; anything else is bytes.
_TYPES: Final = {
    ".json": "application/json",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".txt": "text/plain",
    ".csv": "text/csv",
}
_OTHER: Final = "application/octet-stream"
_LINES: Final = (".jsonl", ".ndjson")
_PART: Final = 1 << 20


class Item(NamedTuple):
    """One input: a file, or the ``line`` (from 1) of one that starts at ``offset``."""

    name: str
    path: Path
    line: int = 0
    offset: int = 0

    def read(self, most: int = 1 << 40) -> bytes:
        """The body of its request.

        Raises:
            OSError: it cannot be read, or is larger than ``most`` bytes.
        """
        with self.path.open("rb") as file:
            if self.line:
                file.seek(self.offset)
                data = file.readline(most + 1)
                if len(data) <= most:
                    return data.strip()
            elif os.fstat(file.fileno()).st_size <= most:
                return file.read()
        raise OSError(errno.EFBIG, f"larger than the {most} bytes that its memory bears")

    def check(self) -> None:
        """See that it can be read, without reading it.

        Raises:
            OSError: it cannot be.
        """
        self.path.open("rb").close()

    @property
    def content_type(self) -> str:
        return "application/json" if self.line else _TYPES.get(self.path.suffix.lower(), _OTHER)


class _File(NamedTuple):
    name: str
    size: int
    # Where each line that is not empty starts, and its number; None: the file is one input.
    lines: "tuple[array[int], array[int]] | None"


class Items:
    """The inputs in the order of their names, numbered from 0. ``digest`` changes when the list does.

    Args:
        folder: with files, at any depth; those whose name begins with a dot are none.
        match: a pattern for their paths below it, such as ``2026-11/*``.
    """

    def __init__(self, folder: Path, match: str = "*") -> None:
        self._folder = folder
        self._files: list[_File] = []
        self._first = array("Q")
        self._count = 0
        digest = hashlib.sha256()
        for name in sorted(_names(folder, match)):
            file = _file(folder / name, name)
            self._files.append(file)
            self._first.append(self._count)
            count = 1 if file.lines is None else len(file.lines[0])
            self._count += count
            digest.update(os.fsencode(name) + f"\0{file.size} {count}\n".encode())
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Item:
        if not 0 <= number < self._count:
            raise IndexError(number)
        # The last that begins there: before it stand the files without a line.
        place = bisect_right(self._first, number) - 1
        file = self._files[place]
        shown = os.fsencode(file.name).decode("utf-8", "replace")
        path = self._folder / file.name
        if file.lines is None:
            return Item(shown, path)
        within = number - self._first[place]
        return Item(shown, path, file.lines[1][within], file.lines[0][within])


def _names(folder: Path, match: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise BadSettings(
            f"the inputs cannot be read: {error.strerror}",
            element=str(error.filename),
            remedy="name a folder that this user may read",
        ) from error

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for file in files:
            path = Path(place, file)
            name = str(path.relative_to(folder))
            # A link that leads nowhere is an input, too: whoever put it there is told.
            odd = path.exists() and not path.is_file()
            if not file.startswith(".") and fnmatch.fnmatchcase(name, match) and not odd:
                found.append(name)
    return found


def _file(path: Path, name: str) -> _File:
    lines: tuple[array[int], array[int]] | None = None
    try:
        size = path.stat().st_size
        if path.suffix.lower() in _LINES:
            lines = _lines(path)
    except OSError:
        # It is said of this input when its turn comes.
        return _File(name, -1, None)
    return _File(name, size, lines)


def _lines(path: Path) -> "tuple[array[int], array[int]]":
    offsets, numbers = array("Q"), array("Q")
    offset = number = 0
    begins, is_empty = True, True
    with path.open("rb") as file:
        # Of a line that is larger than all memory a part at a time.
        while part := file.readline(_PART):
            if begins:
                number, is_empty = number + 1, True
                first = offset
            if is_empty and part.strip():
                is_empty = False
                offsets.append(first)
                numbers.append(number)
            offset += len(part)
            begins = part.endswith(b"\n")
    return offsets, numbers
