"""The blob store: files named by their sha256, with the block index of each as one more blob.

A blob is visible only when it is complete and its digest was recomputed. Reading is safe from any thread.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from fleet.folder import sync_folder
from fleet.refusals import Missing, TooLarge
from modules.digests import BLOCK, Blob, measure_file, sha256
from modules.errors import Invalid
from modules.names import Digest, digest


class Blobs:
    """A folder ``sha256/ab/<rest>`` and one for what is still coming in."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming: Final = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What a crash left half written can never become a blob.
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def path(self, name: Digest) -> Path:
        hexadecimal = digest(name).removeprefix("sha256:")
        return self._root / "sha256" / hexadecimal[:2] / hexadecimal[2:]

    def length(self, name: Digest) -> int | None:
        """Bytes in the blob, None where there is none."""
        try:
            return self.path(name).stat().st_size
        except FileNotFoundError:
            return None

    def describe(self, name: Digest) -> Blob | None:
        """The blob as the server itself measured it, None where there is none."""
        path = self.path(name)
        length = self.length(name)
        if length is None:
            return None
        try:
            blocks = digest(_note(path).read_text())
        except FileNotFoundError:  # an index; nobody asks for the index of one
            return measure_file(path)[0]
        return Blob(name, length, blocks)

    def missing(self, blobs: Iterable[Blob]) -> list[Digest]:
        """The digests among these that are not here, or not with the length and index that were named."""
        absent = [blob.sha256 for blob in blobs if self.describe(blob.sha256) != _plain(blob)]
        return list(dict.fromkeys(absent))

    def read(self, name: Digest) -> bytes:
        """All of a small blob.

        Raises:
            Missing: there is none.
        """
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError as error:
            raise Missing("there is no such blob", element=name) from error

    def find(self, name: Digest) -> bytes | None:
        """All of a small blob, None where there is none."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: Digest) -> None:
        """Forget a blob; whoever reads it meanwhile has it to the end."""
        path = self.path(name)
        # The blob first: one that is visible has its index.
        path.unlink(missing_ok=True)
        _note(path).unlink(missing_ok=True)

    def read_blocks(self, name: Digest, numbers: Iterable[int]) -> tuple[int, list[tuple[int, bytes]]]:
        """The blob's length and those of the asked 64 KiB blocks that it has, with their numbers.

        Raises:
            Missing: there is no such blob.
        """
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY)
        except FileNotFoundError as error:
            raise Missing("there is no such blob", element=name) from error
        try:
            length = os.fstat(descriptor).st_size
            return length, [
                (n, os.pread(descriptor, BLOCK, n * BLOCK)) for n in numbers if n * BLOCK < length or n == 0
            ]
        finally:
            os.close(descriptor)

    def put(self, data: bytes) -> Blob:
        """Store bytes that are in memory, with their index."""
        with self.incoming(sha256(data), limit=len(data)) as incoming:
            incoming.write(data)
            return incoming.finish()

    def incoming(self, name: Digest, *, limit: int) -> "Incoming":
        """Begin to receive a blob; use as a context manager, which forgets it unless finished."""
        return Incoming(self, digest(name), limit, self._incoming)


class Incoming:
    """A blob while it arrives, hashed as a whole and by blocks as the bytes pass."""

    def __init__(self, store: Blobs, name: Digest, limit: int, folder: Path) -> None:
        self._store, self._name, self._limit = store, name, limit
        descriptor, path = tempfile.mkstemp(dir=folder)
        self._stream = os.fdopen(descriptor, "wb")
        self._path = Path(path)
        self._whole, self._block = hashlib.sha256(), hashlib.sha256()
        self._index = bytearray()
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Take more bytes.

        Raises:
            TooLarge: more than the server takes.
        """
        if self._length + len(data) > self._limit:
            raise TooLarge(f"more than {self._limit} bytes", element=self._name)
        self._stream.write(data)
        self._whole.update(data)
        view = memoryview(data)
        while view:
            room = BLOCK - self._length % BLOCK
            part, view = view[:room], view[room:]
            self._block.update(part)
            self._length += len(part)
            if self._length % BLOCK == 0:
                self._end_block()

    def finish(self) -> Blob:
        """Make the blob visible under its digest, with its index.

        Raises:
            Invalid: the bytes are not those that the digest names.
        """
        if self._length % BLOCK:
            self._end_block()
        found = Digest("sha256:" + self._whole.hexdigest())
        if found != self._name:
            raise Invalid(f"the bytes that came are {found}", element=self._name, remedy="send the file again")
        index = bytes(self._index)
        blob = Blob(found, self._length, sha256(index))
        if self._store.length(blob.blocks) is None:
            with self._store.incoming(blob.blocks, limit=len(index)) as more:
                more.write(index)
                more.finish_index()
        # Index and note come before the blob, so that a blob that is visible is complete.
        note = _note(self._store.path(found))
        _make_folder(note.parent)
        draft = self._path.with_suffix(".blocks")
        with draft.open("w") as stream:
            stream.write(blob.blocks)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(note)
        self._publish()
        return blob

    def finish_index(self) -> None:
        """Make an index visible; an index needs none of its own, the manifest names it whole."""
        if "sha256:" + self._whole.hexdigest() != self._name:
            raise Invalid("the index is not the one named", element=self._name)
        self._publish()

    def _end_block(self) -> None:
        self._index += self._block.digest()
        self._block = hashlib.sha256()

    def _publish(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        target = self._store.path(self._name)
        _make_folder(target.parent)
        self._path.replace(target)
        sync_folder(target.parent)


def _make_folder(folder: Path) -> None:
    """Make the folder of some blobs, if it is not there; its own name lasts, too."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(folder.parent)


def _note(path: Path) -> Path:
    """Where the digest of a blob's index is kept."""
    return path.with_name(path.name + ".blocks")


def _plain(blob: Blob) -> Blob:
    """A manifest's file is a blob with a path; without it the two compare."""
    return Blob(blob.sha256, blob.length, blob.blocks)
