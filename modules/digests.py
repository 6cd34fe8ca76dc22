"""Lengths and digests of bytes as they stream past, and the block index that lets 64 KiB be checked alone.

The block index of a blob is the concatenation of the raw sha256 of each of its 64 KiB blocks (the last one may be
shorter). A blob of one block has its own sha256 as index; the empty blob has an empty index. The index is named by its
own sha256, so it is a blob like any other.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import msgspec

from modules.errors import Invalid
from modules.names import Digest, DigestField

BLOCK: Final = 64 * 1024
HASH: Final = 32
MAX_LENGTH: Final = 1 << 40


class Blob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes named by what they are: sha256, length in bytes, and the sha256 of the block index."""

    sha256: DigestField
    length: Annotated[int, msgspec.Meta(ge=0, le=MAX_LENGTH)]
    blocks: DigestField

    @property
    def block_count(self) -> int:
        return -(-self.length // BLOCK)

    def block_length(self, number: int) -> int:
        """Bytes in block ``number`` (counted from 0)."""
        return min(BLOCK, self.length - number * BLOCK)


def sha256(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def read_blocks(stream: BinaryIO) -> Iterator[bytes]:
    """The stream in blocks of 64 KiB, whatever sizes ``read`` returns."""
    while block := stream.read(BLOCK):
        while len(block) < BLOCK and (more := stream.read(BLOCK - len(block))):
            block += more
        yield block


def measure(blocks: Iterable[bytes]) -> tuple[Blob, bytes]:
    """Name a blob given as its 64 KiB blocks; returns it with its block index."""
    whole, index, length = hashlib.sha256(), bytearray(), 0
    for block in blocks:
        whole.update(block)
        index += hashlib.sha256(block).digest()
        length += len(block)
    return Blob(Digest("sha256:" + whole.hexdigest()), length, sha256(bytes(index))), bytes(index)


def measure_bytes(data: bytes) -> Blob:
    """Name a blob that is in memory."""
    return measure(data[start : start + BLOCK] for start in range(0, len(data), BLOCK))[0]


def measure_file(path: Path) -> tuple[Blob, bytes]:
    """Name a file's bytes; returns the blob with its block index."""
    with path.open("rb") as stream:
        return measure(read_blocks(stream))


def check_index(blob: Blob, index: bytes) -> None:
    """Accept a block index only if it is the one that the blob names.

    Raises:
        Invalid: wrong length or digest.
    """
    if len(index) != blob.block_count * HASH or sha256(index) != blob.blocks:
        raise Invalid("this is not the block index that was signed", element=blob.sha256)


def block_matches(index: bytes, number: int, block: bytes) -> bool:
    """Whether ``block`` is the one that the index has at ``number``."""
    return hashlib.sha256(block).digest() == index[number * HASH : (number + 1) * HASH]
