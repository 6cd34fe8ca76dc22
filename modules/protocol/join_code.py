"""A join bundle as a line of text that a QR code holds: what a phone or a hand scanner reads is typed or pasted whole.

``EDGEFLEET.JOIN.1:`` and the bundle as MessagePack, compressed (zlib, RFC 1950), in Base32 without padding (RFC 4648):
capital letters and digits alone, which a QR code holds closest (ISO/IEC 18004, alphanumeric mode).
"""

import base64
import binascii
import zlib
from typing import Final

import msgspec

from modules.canonical import UNREADABLE, unreadable
from modules.errors import Invalid
from modules.protocol.enrollment import LIMIT, JoinBundle

PREFIX: Final = "EDGEFLEET.JOIN.1:"
# A terminal hands over lines of up to 4,095 characters; a QR code holds 4,296.
LONGEST: Final = 4000
_WHAT: Final = "join code"


def encode(bundle: JoinBundle) -> str:
    """The bundle's code.

    Raises:
        Invalid: it is longer than a terminal's line and a QR code are: many keys, or authorities of others in it.
    """
    packed = base64.b32encode(zlib.compress(msgspec.msgpack.encode(bundle), 9)).decode().rstrip("=")
    if len(PREFIX) + len(packed) > LONGEST:
        raise Invalid(
            f"this bundle would take {len(PREFIX) + len(packed)} characters, and a code holds {LONGEST}",
            element=_WHAT,
            remedy="carry the bundle's file to the device",
        )
    return PREFIX + packed


def is_code(data: bytes) -> bool:
    """Whether this is meant as a code, and not as a bundle's file."""
    return data.lstrip()[: len(PREFIX)].upper() == PREFIX.encode()


def decode(data: bytes) -> JoinBundle:
    """The bundle of a code, whatever white space a terminal or a scanner put into it.

    Raises:
        Invalid: a part of it is missing or was read wrong.
    """
    try:
        document = _unpacked(b"".join(data.split())[len(PREFIX) :].upper())
    except (binascii.Error, zlib.error) as error:
        said = "a part of the code is missing, or was read wrong"
        raise Invalid(said, element=_WHAT, remedy="scan it again") from error
    try:
        return msgspec.msgpack.decode(document, type=JoinBundle)
    except UNREADABLE as error:
        raise Invalid(unreadable(error), element=_WHAT) from error


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    document = unpacking.decompress(base64.b32decode(packed + b"=" * (-len(packed) % 8)), LIMIT)
    if not unpacking.eof:
        raise zlib.error("its end is missing")
    return document
