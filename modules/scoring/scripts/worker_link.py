"""Frames over a worker's socket: 4 bytes length of a JSON head, 8 bytes length of a body (big-endian), head, body."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

import orjson

_FRAME: Final = struct.Struct(">IQ")
_SMALL: Final = 64 << 10


class Link(asyncio.Protocol):
    """Calls ``receive`` with each frame that comes, and ``lost`` when the socket is closed."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._wanted = _FRAME.size
        self.receive: Callable[[dict[str, Any], bytes], None]
        self.lost: Callable[[], None]
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # asyncio types it for datagrams too

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= self._wanted:
            head_length, body_length = _FRAME.unpack_from(self._received)
            start = _FRAME.size + head_length
            end = start + body_length
            if len(self._received) < end:
                self._wanted = end
                return
            with memoryview(self._received) as view:
                head, body = orjson.loads(view[_FRAME.size : start]), bytes(view[start:end])
            del self._received[:end]
            self._wanted = _FRAME.size
            self.receive(head, body)

    def send(self, head: dict[str, Any], body: bytes | bytearray = b"") -> None:
        text = orjson.dumps(head)
        frame = _FRAME.pack(len(text), len(body)) + text
        if len(body) <= _SMALL:
            self.transport.write(frame + body)
        else:
            self.transport.write(frame)
            self.transport.write(body)
