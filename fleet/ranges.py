"""Which bytes of a blob a request asks for: the Range header of RFC 9110, one range of bytes at a time."""

import re
from typing import Final

from modules.errors import Refused

# first-last, first- or -suffix; a blob's length has 13 digits at most.
_ONE: Final = re.compile(r"([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18})")


class Unsatisfiable(Refused):
    """No byte of the blob is in the range, or it is no range."""

    code = "range"


def selected(header: str | None, length: int) -> range | None:
    """The bytes that ``header`` selects of a blob of so many; None for all of it.

    What RFC 9110 (14.2) lets a server ignore, or makes it, means all: no header, another unit, several ranges at once.

    Raises:
        Unsatisfiable: the range begins behind the end, or cannot be read.
    """
    unit, equals, text = (header or "").partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    parts = [part.strip(" \t") for part in text.split(",")]
    parts = [part for part in parts if part]
    if len(parts) > 1:
        return None
    found = _ONE.fullmatch(parts[0]) if parts else None
    if found is None:
        raise Unsatisfiable(f"{text[:80]!r} is no range of bytes", element="Range", remedy="ask for bytes=FIRST-LAST")
    first_text, last_text, suffix = found.groups()
    first = max(length - int(suffix), 0) if suffix else int(first_text)
    last = min(int(last_text), length - 1) if last_text else length - 1
    if last_text and int(last_text) < first:
        raise Unsatisfiable(f"{text[:80]!r} ends before it begins", element="Range")
    if first >= length:
        raise Unsatisfiable(f"{text[:80]!r} is behind the end of {length} bytes", element="Range")
    return range(first, last + 1)
