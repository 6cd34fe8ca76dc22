"""How large a body may be, by what reading it takes: JSON becomes many times its size, bytes are used as they came."""

from collections.abc import Iterable
from typing import Final

from modules.scoring.http.replies import Header
from modules.scoring.runtime import Buffer

# Measured on lists of numbers and of words: bytes of memory for a byte of JSON, and for each list or object besides.
BYTES_PER_BYTE: Final = 20
BYTES_PER_LIST: Final = 240
_BINARY: Final = (b"application/octet-stream", b"audio/", b"image/", b"multipart/", b"video/")
_JSON_LENGTH: Final = b"inference-header-content-length"


def text_length(headers: Iterable[Header], length: int) -> int:
    """How many bytes of a body of ``length`` are read as text; all of them where nothing says otherwise."""
    found = length
    for name, value in headers:
        if name == b"content-type" and value.lower().startswith(_BINARY):
            found = 0
        elif name == _JSON_LENGTH and value.isdigit():
            return min(int(value[:20]), length)
    return found


def nested(body: Buffer, text: int) -> int:
    """Bytes of memory that lists and objects in the first ``text`` bytes of a body become, beside what they hold."""
    start = bytes(memoryview(body)[:text]) if text < len(body) or isinstance(body, memoryview) else body
    return (start.count(b"[") + start.count(b"{")) * BYTES_PER_LIST
