"""Pull of a blob or of a TUF metadata file, in blocks of 64 KiB that the device asks for.

The device publishes :class:`BlobGet` or :class:`MetadataGet` at ``up/blob/get``; the server answers with one
:class:`Block` for each block asked for, at ``down/blob/<request>``, QoS 0: what gets lost is asked for again. Flow
control is the device's: it has one window of requests in flight. A refusal is a block with a status.

Where several devices pull the same blob, the server sends each block once, as a :class:`Shared` at
``_shared/blob/<digest>``. A device that may take part says so in its request (``shared`` is ``COULD``), is answered
with the status ``INVITED``, subscribes, and asks again as one that has ``JOINED``. What it misses it asks for
``ALONE``, as devices and servers of before do always: they skip the fields that they do not know. Whoever reads the
topic no more says that it has ``LEFT``.
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
# "Subscribe to the blob's shared topic, and ask again": ``number`` is how many blocks to ask for ahead, at most.
INVITED: Final = 303
MISSING: Final = 404
BUSY: Final = 503
# What a request says of the shared topic of its blob; one that has left asks for nothing.
ALONE, COULD, JOINED, LEFT = 0, 1, 2, 3


class BlobGet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="blob", tag_field="kind"):
    """Blocks of one blob: bit ``i`` of ``mask`` asks for block ``first + i``.

    ``shared`` is one of ``ALONE``, ``COULD``, ``JOINED`` and ``LEFT``. Whoever has joined says with ``last`` which is
    the highest block that it misses, so that nobody waits for it beyond that, and with ``still`` which of its other
    requests for this blob wait: what the rest asked for has come.
    """

    request: Number
    digest: DigestField
    first: Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOCKS)] = 0
    mask: Annotated[int, msgspec.Meta(ge=1, le=(1 << MAX_MASK) - 1)] = 1
    shared: Annotated[int, msgspec.Meta(ge=ALONE, le=LEFT)] = ALONE
    last: Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOCKS + MAX_MASK)] = 0
    still: Annotated[tuple[Number, ...], msgspec.Meta(max_length=8)] = ()

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


class Shared(msgspec.Struct, frozen=True, array_like=True):
    """One block for all who read the topic of its blob: its number, the blob's whole length in bytes, and the bytes.

    Right before it comes one without bytes, with the same number: from the time between the two a device knows how
    quick its link is, whatever the server's pace.
    """

    number: Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOCKS + MAX_MASK)]
    length: Annotated[int, msgspec.Meta(ge=0, le=MAX_LENGTH)]
    data: Annotated[bytes, msgspec.Meta(max_length=BLOCK)] = b""


_encoder = msgspec.msgpack.Encoder()
_get: msgspec.msgpack.Decoder[Get] = msgspec.msgpack.Decoder(Get)
_block: msgspec.msgpack.Decoder[Block] = msgspec.msgpack.Decoder(Block)
_shared: msgspec.msgpack.Decoder[Shared] = msgspec.msgpack.Decoder(Shared)


def encode(document: Get | Block | Shared) -> bytes:
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


def decode_shared(data: bytes) -> Shared:
    """Read a block of a shared topic.

    Raises:
        Invalid: too large or not such a block.
    """
    if len(data) > BLOCK_LIMIT:
        raise Invalid(f"{len(data)} bytes is more than the {BLOCK_LIMIT} allowed", element="_shared/blob")
    try:
        return _shared.decode(data)
    except UNREADABLE as error:
        raise Invalid(unreadable(error), element="_shared/blob") from error
