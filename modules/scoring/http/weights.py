"""What reading a body takes, by what is in it."""

from typing import Final

from modules.scoring.runtime import Buffer

# Measured on lists of numbers and of words: bytes of memory for a byte of JSON, and for each list or object besides.
BYTES_PER_BYTE: Final = 20
BYTES_PER_LIST: Final = 240


def nested(body: Buffer, text: int) -> int:
    """Bytes of memory that lists and objects in the first ``text`` bytes of a body become, beside what they hold."""
    start = bytes(memoryview(body)[:text]) if text < len(body) or isinstance(body, memoryview) else body
    return (start.count(b"[") + start.count(b"{")) * BYTES_PER_LIST
