"""What an image takes of the disk once an engine has unpacked it, read from its layers before the engine gets them.

A signature says whose a layer is, not how large it becomes: 3 MB of gzip can be 3 GB. An engine unpacks whatever it is
given until the disk is full, so it is given only what fits. Sparse files, a few bytes that become any number, are
refused: no builder of images writes them.

The publisher signs the figure, so that a device knows it before it fetches; what it counts is part of that promise.

The headers are read here one by one, because tarfile keeps names and attributes of any length in memory.
"""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from modules.digests import MAX_LENGTH
from modules.errors import Invalid
from modules.manifest import Image
from modules.oci import blob_path

# A file system gives out whole blocks, and a folder or an empty file is not free either.
_DISK_BLOCK: Final = 4096
# The longest names and attributes that Linux knows, several times over.
_WORDS: Final = 1 << 20
_AT_ONCE: Final = 64 << 10
# Where a header has the length, which is written in octal digits, or in binary with the first bit set.
_SIZE: Final = slice(124, 136)
_NUMBER: Final = re.compile(rb" *[0-7]+[ \0]*|\x80.{11}", re.DOTALL)
_ATTRIBUTES: Final = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE})
_LONG: Final = frozenset({tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
_EMPTY: Final = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE}
)


def sized(image: Image, blobs: Path) -> Image:
    """The image with what it unpacks to, measured where nobody has done it before; its layers lie in ``blobs``.

    Raises:
        Invalid: as :func:`unpacked`, or larger than any image may be.
    """
    if image.unpacked_bytes is not msgspec.UNSET:
        return image
    total = unpacked(layers_of(image, blobs), most=MAX_LENGTH)
    if total > MAX_LENGTH:
        raise Invalid(f"it unpacks to more than {MAX_LENGTH >> 30} GiB", element=f"image {image.name}")
    return msgspec.structs.replace(image, unpacked_bytes=total)


def layers_of(image: Image, blobs: Path) -> Iterator[Path]:
    return (blob_path(blobs, layer.sha256) for layer in image.layers)


def unpacked(layers: Iterable[Path], *, most: int) -> int:
    """How many bytes these layers (gzip-compressed tars) take, unpacked; reading ends where it is more than ``most``.

    Blocking, and as long as unpacking takes without the writing.

    Raises:
        Invalid: a layer is missing, or no such archive, or has sparse files in it.
    """
    total = 0
    for path in layers:
        if total > most:
            break
        try:
            # Several gzip members in a row are one stream to an engine, and to this reader.
            with gzip.open(path) as stream:
                total = _walked(stream, total, most)
        except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, FileNotFoundError, ValueError) as error:
            raise Invalid(f"a layer is no gzip-compressed tar: {error}", element=path.name) from error
    return total


def _walked(stream: gzip.GzipFile, total: int, most: int) -> int:
    size: int | None = None
    while total <= most:
        block = stream.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or not any(block):
            break
        if not _NUMBER.fullmatch(block[_SIZE]):
            raise tarfile.ReadError("a file whose length two readers could read in two ways is in it")
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError("a sparse file is in it")
        if member.type in _ATTRIBUTES | _LONG:
            words = _words(stream, member.size)
            # As engines read it: the last attributes of a file count, and global ones do not say its length.
            size = _size(words) if member.type == tarfile.XHDTYPE else size
            continue
        length = 0 if member.type in _EMPTY else member.size if size is None else size
        size = None
        total += -(-length // _DISK_BLOCK) * _DISK_BLOCK + _DISK_BLOCK
        if total <= most:
            _skip(stream, length)
    return total


def _words(stream: gzip.GzipFile, length: int) -> bytes:
    if not 0 <= length <= _WORDS:
        raise tarfile.ReadError(f"names or attributes of {length} bytes are in it")
    words = stream.read(length)
    _skip(stream, -length % tarfile.BLOCKSIZE, padded=True)
    return words


def _size(records: bytes) -> int | None:
    """The length of the next file, where the attributes of pax(1) say another one than its header."""
    size = None
    while records:
        count = int(records.partition(b" ")[0])
        name, _, value = records[:count].partition(b" ")[2].partition(b"=")
        if count <= 0 or name.startswith(b"GNU.sparse"):
            raise tarfile.ReadError("a sparse file is in it, or attributes that cannot be read")
        size = int(value) if name == b"size" else size
        records = records[count:]
    return size


def _skip(stream: gzip.GzipFile, length: int, *, padded: bool = False) -> None:
    if length < 0:
        raise tarfile.ReadError("a file of less than nothing is in it")
    left = length if padded else -(-length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    while left and (some := stream.read(min(left, _AT_ONCE))):
        left -= len(some)
