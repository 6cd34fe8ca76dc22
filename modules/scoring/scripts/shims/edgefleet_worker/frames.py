"""The worker's side of the socket to the server: length of a JSON head, length of a body, head, body (big-endian)."""

import json
import struct
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO

FRAME = struct.Struct(">IQ")

Head = dict[str, Any]


class Channel:
    """Frames in and out. Iterating gives what the server sends, and ends when the server does."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._postponed: deque[tuple[Head, bytes]] = deque()

    def __iter__(self) -> Iterator[tuple[Head, bytes]]:
        while (frame := self._postponed.popleft() if self._postponed else self._read()) is not None:
            yield frame

    def during_stream(self) -> Iterator[str]:
        """The kinds of the frames about a stream; requests that come meanwhile are for later."""
        while (frame := self._read()) is not None:
            if frame[0]["kind"] == "request":
                self._postponed.append(frame)
            else:
                yield frame[0]["kind"]

    def _read(self) -> tuple[Head, bytes] | None:
        start = self._incoming.read(FRAME.size)
        if len(start) < FRAME.size:
            return None
        head, body = FRAME.unpack(start)
        return json.loads(self._incoming.read(head)), self._incoming.read(body) if body else b""

    def send(self, head: Head, body: bytes = b"") -> None:
        # Names and words of the script's may have lone surrogates, which no other reader of JSON takes.
        text = json.dumps(head, ensure_ascii=False).encode(errors="replace")
        self._outgoing.write(FRAME.pack(len(text), len(body)) + text)
        self._outgoing.write(body)
        self._outgoing.flush()
