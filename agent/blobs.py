"""Blobs on the device's disk: whole ones, partial ones that a restart goes on with, and their block indexes.

``blobs/<hex>`` is a whole blob, ``<hex>.part`` one on its way, ``<hex>.index`` its block index. A partial blob needs no
record of what it holds: each of its blocks either matches the index or is fetched again, so no crash can leave a lie.
"""

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from agent.identity import sync_folder
from modules.digests import BLOCK, HASH, Blob, block_matches, check_index, measure_file, read_blocks
from modules.errors import Invalid
from modules.names import Digest

_HEX: Final = slice(len("sha256:"), None)
_log = logging.getLogger(__name__)


class BlobStore:
    """A folder of blobs, named by digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        return self.folder / digest[_HEX]

    def has(self, blob: Blob) -> bool:
        """Whether the whole blob is here. Its bytes were checked before it got this name."""
        try:
            return self.path(blob.sha256).stat().st_size == blob.length
        except FileNotFoundError:
            return False

    def sound(self, blob: Blob) -> bool:
        """Whether it is here with the bytes that were checked; what a bad disk made of it is removed. Reads all."""
        if not self.has(blob):
            return False
        path, whole = self.path(blob.sha256), hashlib.sha256()
        with path.open("rb") as stream:
            # Not file_digest: its buffer of 256 kB makes the allocator keep more for good, in each thread.
            for block in read_blocks(stream):
                whole.update(block)
        if whole.hexdigest() == blob.sha256[_HEX]:
            return True
        _log.error("%s was changed on this disk, and is fetched again", path)
        path.unlink()
        return False

    def index(self, blob: Blob) -> bytes | None:
        """The block index, if it is here or if the blob is its own; one that a power cut tore is not here."""
        if blob.block_count == 0:
            return b""
        if blob.block_count == 1:
            return bytes.fromhex(blob.sha256[_HEX])
        try:
            index = self._index_path(blob.sha256).read_bytes()
            check_index(blob, index)
        except (FileNotFoundError, Invalid):
            return None
        return index

    def keep_index(self, blob: Blob, index: bytes) -> None:
        """Keep an index that was checked against the blob."""
        partial = self._index_path(blob.sha256).with_suffix(".new")
        partial.write_bytes(index)
        partial.replace(self._index_path(blob.sha256))

    def _index_path(self, digest: Digest) -> Path:
        return self.folder / f"{digest[_HEX]}.index"

    def open_partial(self, blob: Blob) -> BinaryIO:
        """The partial blob, at its full length, for reading and writing."""
        path = self.folder / f"{blob.sha256[_HEX]}.part"
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        stream.truncate(blob.length)
        return stream

    def missing(self, index: bytes, stream: BinaryIO) -> set[int]:
        """The blocks that the partial blob has not got; reads all of it."""
        stream.seek(0)
        return {n for n, block in enumerate(read_blocks(stream)) if not block_matches(index, n, block)}

    def copy_known(self, index: bytes, missing: set[int], stream: BinaryIO) -> int:
        """Fill blocks from blobs already here, of any version of any module; returns how many.

        Takes those blocks out of ``missing``. Each copied block is checked like a fetched one.
        """
        wanted: dict[bytes, list[int]] = {}
        for number in missing:
            wanted.setdefault(index[number * HASH : (number + 1) * HASH], []).append(number)
        filled = 0
        for other in self.folder.glob("*.index"):
            if not wanted:
                break
            source = other.with_suffix("")
            hashes = other.read_bytes()
            found = {hashes[i : i + HASH]: i // HASH for i in range(0, len(hashes), HASH)}
            shared = wanted.keys() & found.keys()
            if shared and source.exists():
                filled += self._copy(source, {found[one]: wanted[one] for one in shared}, index, missing, stream)
                wanted = {one: numbers for one, numbers in wanted.items() if not missing.isdisjoint(numbers)}
        return filled

    @staticmethod
    def _copy(source: Path, blocks: dict[int, list[int]], index: bytes, missing: set[int], stream: BinaryIO) -> int:
        filled = 0
        with source.open("rb") as old:
            for at, numbers in blocks.items():
                old.seek(at * BLOCK)
                block = old.read(BLOCK)
                for number in numbers:
                    if block_matches(index, number, block):
                        os.pwrite(stream.fileno(), block, number * BLOCK)
                        missing.discard(number)
                        filled += 1
        return filled

    def finish(self, blob: Blob) -> None:
        """Give a complete partial blob its name, after reading it once more as a whole.

        Raises:
            Invalid: it is not the blob; the partial file is removed.
        """
        path = self.folder / f"{blob.sha256[_HEX]}.part"
        measured, _ = measure_file(path)
        if measured != Blob(blob.sha256, blob.length, blob.blocks):
            path.unlink()
            raise Invalid("its blocks match but the whole does not", element=blob.sha256)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.replace(self.path(blob.sha256))
        sync_folder(self.folder)

    def prune(self, keep: Iterable[Digest], budget: int) -> int:
        """Forget unnamed blobs, oldest first, until the folder is within ``budget`` bytes; returns the bytes freed."""
        kept = {one[_HEX] for one in keep}
        files = [(path.stat().st_mtime, path) for path in self.folder.iterdir() if path.is_file()]
        total = sum(path.stat().st_size for _, path in files)
        freed = 0
        for _, path in sorted(files):
            if total - freed <= budget:
                break
            if path.name.split(".")[0] not in kept:
                freed += path.stat().st_size
                path.unlink()
        return freed
