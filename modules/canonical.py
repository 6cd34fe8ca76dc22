"""One byte form for every document that is signed or named by digest, and bounded reading of it.

JSON, UTF-8, no spaces, object keys of free-form maps sorted, Struct fields in their declared order. A document is
hashed and signed as the bytes that were written; readers never re-encode to verify.
"""

from typing import Any, Final, TypeVar

import msgspec

from modules.errors import Invalid

T = TypeVar("T")

# All that decoding foreign bytes raises.
UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_SHOWN: Final = 300

_encoder = msgspec.json.Encoder(order="deterministic")


def encode(document: Any) -> bytes:
    """The byte form of a Struct or of plain JSON values."""
    return _encoder.encode(document)


def decode(data: bytes, kind: type[T], *, limit: int, what: str) -> T:
    """Read a document of at most ``limit`` bytes, strictly: types and bounds are checked.

    Unknown fields are skipped, so that a newer writer is understood, unless the document's kind forbids them.

    Raises:
        Invalid: too large, not JSON, nested too deeply, or not of this kind; names ``what`` and the field.
    """
    if len(data) > limit:
        raise Invalid(f"{len(data)} bytes is more than the {limit} allowed", element=what)
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise Invalid(unreadable(error), element=what) from error


def unreadable(error: Exception) -> str:
    """Why a document could not be decoded, as a message; the decoder may repeat a foreign text of any length."""
    return f"not a valid document: {str(error)[:_SHOWN]}"
