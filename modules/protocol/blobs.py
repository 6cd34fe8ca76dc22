"""Pull of a blob or of a TUF metadata file, in blocks of 64 KiB that the device asks for.

The device publishes :class:`BlobGet` or :class:`MetadataGet` at ``up/blob/get``; the server answers with one
:class:`Block` for each block asked for, at ``down/blob/<request>``, QoS 0: what gets lost is asked for again. Flow
control is the device's: it has one window of requests in flight. A refusal is a block with a status.
"""

from typing import Annotated, Final

import msgspec

from modules.bounds import Count, Number
from modules.canonical import UNREADABLE, unreadable
from modules.digests import BLOCK, MAX_LENGTH
from modules.errors import Invalid
from modules.names import DigestField, MetadataField

GET_LIMIT: Final = 4 << 10
BLOCK_LIMIT: Final = BLOCK + 512
MAX_BLOCKS: Final = MAX_LENGTH // BLOCK
# Blocks of one request: the bits of a mask that is a positive 64-bit integer.
MAX_MASK: Final = 63
OK: Final = 200
MISSING: Final = 404
BUSY: Final = 503


class BlobGet(msgspec.Struct, frozen=True, kw_only=True, tag="blob", tag_field="kind"):
    """Blocks of one blob: bit ``i`` of ``mask`` asks for block ``first + i``."""

    request: Number
    digest: DigestField
    first: Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOCKS)] = 0
    mask: Annotated[int, msgspec.Meta(ge=1, le=(1 << MAX_MASK) - 1)] = 1

    @property
    def numbers(self) -> list[int]:
        return [self.first + i for i in range(self.mask.bit_length()) if self.mask >> i & 1]


class MetadataGet(msgspec.Struct, frozen=True, kw_only=True, tag="tuf", tag_field="kind"):
    """A TUF metadata file by name, as ``2.root.json`` or ``timestamp.json``; answered with all of its blocks."""

    request: Number
    name: MetadataField


Get = BlobGet | MetadataGet


class Block(msgspec.Struct, frozen=True, array_like=True):
    """One block: its number, the blob's whole length in bytes, and the bytes.

    Unless ``status`` is 200, ``data`` is the reason in words.
    """

    request: Number
    status: Annotated[int, msgspec.Meta(ge=100, le=599)]
    number: Count
    length: Annotated[int, msgspec.Meta(ge=0, le=MAX_LENGTH)]
    data: Annotated[bytes, msgspec.Meta(max_length=BLOCK)]


_encoder = msgspec.msgpack.Encoder()
_get: msgspec.msgpack.Decoder[Get] = msgspec.msgpack.Decoder(Get)
_block: msgspec.msgpack.Decoder[Block] = msgspec.msgpack.Decoder(Block)


def encode(document: Get | Block) -> bytes:
    return _encoder.encode(document)


def decode_get(data: bytes) -> Get:
    """Read a request.

    Raises:
        Invalid: too large or not a request.
    """
    if len(data) > GET_LIMIT:
        raise Invalid(f"{len(data)} bytes is more than the {GET_LIMIT} allowed", element="up/blob/get")
    try:
        return _get.decode(data)
    except UNREADABLE as error:
        raise Invalid(unreadable(error), element="up/blob/get") from error


def decode_block(data: bytes) -> Block:
    """Read a block.

    Raises:
        Invalid: too large or not a block.
    """
    if len(data) > BLOCK_LIMIT:
        raise Invalid(f"{len(data)} bytes is more than the {BLOCK_LIMIT} allowed", element="down/blob")
    try:
        return _block.decode(data)
    except UNREADABLE as error:
        raise Invalid(unreadable(error), element="down/blob") from error
