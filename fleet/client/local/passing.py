"""One client's connection to ``serve-local``, for as long as it lasts, whichever versions answer on it.

The version that ends closes its connections once they are idle, or just before it would have read a request. Neither is
the client's affair: what it has sent and nobody has answered is sent again to the newest version.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

_CHUNK: Final = 1 << 16
# What a client may send of one request for it to be kept; beyond that it cannot be sent again.
_KEPT: Final = 64 << 20
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_BUSY: Final = 503
_BODILESS: Final = (204, 304)
_SWITCHES: Final = 10


class _Answer:
    """How far an answer has come; ``status`` is 0 before its head is whole."""

    def __init__(self, *, bodiless: bool) -> None:
        self.status = 0
        self.closes = False
        self._bodiless = bodiless
        self._head, self._tail = b"", b""
        self._left: int | None = None

    @property
    def waits_for_head(self) -> bool:
        return bool(self._head) and self.status == 0

    @property
    def whole(self) -> bool:
        return self.status != 0 and (self._left == 0 if self._left is not None else self._tail == _LAST_CHUNK)

    def add(self, data: bytes) -> None:
        if self.status == 0:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            lines = head.lower().split(b"\r\n")
            status = int(lines[0].split()[1])
            if status < 200:  # noqa: PLR2004  an interim answer: the real one follows
                self._head = b""
                self.add(data)
                return
            self.status = status
            fields = dict(line.partition(b":")[::2] for line in lines[1:])
            self.closes = fields.get(b"connection", b"").strip() == b"close"
            if self._bodiless or status in _BODILESS:
                self._left = 0
            elif b"content-length" in fields:
                self._left = int(fields[b"content-length"])
            self._tail = b"\r\n"
        if self._left is not None:
            self._left -= len(data)
        self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]


class Passing:
    """Bytes both ways, between a client and the socket that ``newest`` names at the time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, newest: Callable[[], Path]) -> None:
        self._reader, self._writer, self._newest = reader, writer, newest
        self._at: Path | None = None
        self._there: asyncio.StreamWriter | None = None
        self._answers: asyncio.Task[None] | None = None
        # Of a request without an answer yet.
        self._sent = bytearray()
        self._answer = _Answer(bodiless=False)
        self._switches = 0
        # Nobody sends while what was sent before is sent again.
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Pass on until one of the two sides is through."""
        try:
            while data := await self._reader.read(_CHUNK):
                async with self._sending:
                    await self._send(data)
            if self._there is not None and self._there.can_write_eof():
                self._there.write_eof()
            while (task := self._answers) is not None:
                await task
                if task is self._answers:
                    break
        except OSError:
            pass
        finally:
            if self._answers is not None:
                self._answers.cancel()
            for one in (self._writer, self._there):
                if one is not None:
                    one.close()

    async def _send(self, data: bytes) -> None:
        if not self._sent and (self._answer.whole or not self._answer.status):
            self._answer = _Answer(bodiless=data.startswith(b"HEAD "))
        if len(self._sent) <= _KEPT:
            self._sent += data
        if self._there is None:
            await self._connect()
        else:
            await self._write(data)

    async def _connect(self) -> None:
        """Have the newest version answer what was sent and not answered."""
        while True:
            at = self._newest()
            try:
                reader, self._there = await asyncio.open_unix_connection(str(at))
                break
            except OSError:
                if at == self._newest():
                    raise
        self._at = at
        self._answers = asyncio.create_task(self._pass_answers(reader), name="pass answers on")
        await self._write(bytes(self._sent))

    async def _write(self, data: bytes) -> None:
        """A version that is gone is found out by whoever reads from it."""
        assert self._there is not None  # noqa: S101  whoever calls has connected
        with contextlib.suppress(OSError):
            self._there.write(data)
            await self._there.drain()

    async def _pass_answers(self, reader: asyncio.StreamReader) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                self._answer.add(data)
                held += data
                if self._answer.waits_for_head:
                    continue
                if self._answer.status == _BUSY and self._answer.closes and self._can_switch():
                    break  # it is ending, and another may answer
                if self._answer.status:
                    self._sent.clear()
                self._writer.write(held)
                held = b""
                await self._writer.drain()
        async with self._sending:
            if self._there is not None:
                self._there.close()
            self._there = None
            if self._sent and self._can_switch():
                self._switches += 1
                self._answer = _Answer(bodiless=self._sent.startswith(b"HEAD "))
                with contextlib.suppress(OSError):
                    await self._connect()
                    return
            elif self._at != self._newest() and self._answer.whole and not self._answer.closes:
                return
        # As the server closed it.
        self._writer.close()

    def _can_switch(self) -> bool:
        """Whether another version may answer: there is one, and all that was sent is there to be sent again."""
        return self._at != self._newest() and len(self._sent) <= _KEPT and self._switches < _SWITCHES
