"""How large a request's body may be for the memory that a module was granted: JSON becomes many times its size.

The scoring server goes by it, and so does the gateway: an image may hold a server that does not.

Measured in a container of 128 MiB without swap, with a graph of 64 numbers a row and without these limits: the kernel
ended the server at 4 MiB of JSON where it was short numbers (3 were answered), at 16 MiB where it was numbers of eight
digits (12 were), and at 24 MiB of bytes (16 were). The limits for 128 MiB are half of what was borne, 2 and 8 MiB.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

# What the server takes with a small graph.
OWN_MEMORY: Final = 64 << 20
_BINARY: Final = (b"application/octet-stream", b"audio/", b"image/", b"multipart/", b"video/")
_JSON_LENGTH: Final = b"inference-header-content-length"


class Bearable(NamedTuple):
    """Bytes of the largest body, and of the largest one of JSON or text."""

    body: int
    text: int

    def excess(self, length: int, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Why a body of this length is too large; empty where it is not. Names are in lower case."""
        if length <= self.text and length <= self.body:
            return ""
        if self.text < self.body and text_length(headers, length) > self.text:
            return f"the JSON or text is larger than {self.text} bytes: send less at once, or binary tensors"
        return f"the body is larger than {self.body} bytes: send less at once" if length > self.body else ""


def free(granted: int) -> int:
    """Bytes of the granted ones that what clients send may take."""
    return max(granted - OWN_MEMORY, granted // 4)


def bearable(granted: int) -> Bearable:
    """What so many bytes of memory bear."""
    return Bearable(body=max(1, free(granted) // 8), text=max(1, free(granted) // 32))


def text_length(headers: Iterable[tuple[bytes, bytes]], length: int) -> int:
    """How many bytes of a body of ``length`` are read as text; all of them where nothing says otherwise."""
    found = length
    for name, value in headers:
        if name == b"content-type" and value.lower().startswith(_BINARY):
            found = 0
        elif name == _JSON_LENGTH and value.isdigit():
            return min(int(value[:20]), length)
    return found
