"""A blob store that keeps nothing but what it has had: blocks are checked as on a device, and then dropped."""

import os
from pathlib import Path
from typing import BinaryIO

from agent.blobs import BlobStore
from modules.digests import HASH, Blob
from modules.names import Digest


class Nowhere(BlobStore):
    """One device's; ``had`` are the blobs that it has pulled."""

    def __init__(self, had: set[Digest]) -> None:  # no folder is made
        self.folder = Path(os.devnull)
        self._had = had

    def has(self, blob: Blob) -> bool:
        return blob.sha256 in self._had

    def index(self, blob: Blob) -> bytes | None:
        if blob.block_count > 1:
            return None  # each device asks for it, as a real one does
        return super().index(blob)

    def keep_index(self, blob: Blob, index: bytes) -> None:
        """It is asked for again; nothing is kept."""

    def open_partial(self, blob: Blob) -> BinaryIO:  # noqa: ARG002 - the same for all
        return Path(os.devnull).open("r+b", buffering=0)

    def missing(self, index: bytes, stream: BinaryIO) -> set[int]:  # noqa: ARG002 - nothing is there
        return set(range(len(index) // HASH))

    def copy_known(self, index: bytes, missing: set[int], stream: BinaryIO) -> int:  # noqa: ARG002 - as above
        return 0

    def finish(self, blob: Blob) -> None:
        """Every block matched the index, and the index what the publisher signed; there are no bytes left to read."""
        self._had.add(blob.sha256)
