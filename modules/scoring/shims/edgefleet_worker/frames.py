"""The worker's side of the socket to the server: length of a JSON head, length of a body, head, body (big-endian)."""

import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

FRAME = struct.Struct(">IQ")

Head = dict[str, Any]


class Channel:
    """Frames in and out. Iterating gives what the server sends, and ends when the server does."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def __iter__(self) -> Iterator[tuple[Head, bytes]]:
        while len(start := self._incoming.read(FRAME.size)) == FRAME.size:
            head, body = FRAME.unpack(start)
            yield json.loads(self._incoming.read(head)), self._incoming.read(body) if body else b""

    def send(self, head: Head, body: bytes = b"") -> None:
        text = json.dumps(head).encode()
        self._outgoing.write(FRAME.pack(len(text), len(body)) + text)
        self._outgoing.write(body)
        self._outgoing.flush()
