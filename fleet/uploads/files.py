"""The files of uploads, each named by what is in it, in a folder of their own.

They are no blobs: devices, endpoints and manifests look for bytes in fleet/blobs.py, and find none of these there.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from fleet.folder import sync_folder
from modules.names import Digest, digest

# What is younger may be an upload whose row is about to be written.
_SETTLED_S: Final = 3600.0


class Received(NamedTuple):
    """What came, as the server itself hashed it."""

    digest: Digest
    length: int


class Files:
    """A folder, and one below it for what is still coming in."""

    def __init__(self, root: Path) -> None:
        self._root, self._incoming = root, root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Of an upload that a crash cut off nobody has the rest.
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def path(self, name: Digest) -> Path:
        return self._root / digest(name).removeprefix("sha256:")

    def has(self, name: Digest) -> bool:
        return self.path(name).is_file()

    def remove(self, name: Digest) -> None:
        """Forget a file; whoever reads it meanwhile has it to the end."""
        self.path(name).unlink(missing_ok=True)

    def settled(self) -> Iterator[Digest]:
        """The files that have been here for an hour."""
        before = time.time() - _SETTLED_S
        for file in self._root.iterdir():
            if file.is_file() and file.stat().st_mtime < before:
                yield Digest(f"sha256:{file.name}")

    def incoming(self, allow: Callable[[int], None]) -> "Incoming":
        """Begin to receive one, as a context manager; ``allow`` is told of each further bytes, and may refuse them."""
        return Incoming(self, self._incoming, allow)


class Incoming:
    """A file while it arrives; nothing of it is left unless it is finished."""

    def __init__(self, files: Files, folder: Path, allow: Callable[[int], None]) -> None:
        self._files, self._allow = files, allow
        descriptor, path = tempfile.mkstemp(dir=folder)
        self._stream, self._path = os.fdopen(descriptor, "wb"), Path(path)
        self._hash, self._length = hashlib.sha256(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        self._allow(len(data))
        self._stream.write(data)
        self._hash.update(data)
        self._length += len(data)

    def finish(self) -> Received:
        """Keep the file, durably, under its digest."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        found = Received(Digest("sha256:" + self._hash.hexdigest()), self._length)
        target = self._files.path(found.digest)
        self._path.replace(target)
        sync_folder(target.parent)
        return found
