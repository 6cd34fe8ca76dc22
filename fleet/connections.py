"""Connections that end: a head, a body and a reader of answers have their time, and one address its share.

uvicorn waits for a request for ever. Here a client that sends half of one, or slowly, or does not read what it asked
for, is told so (408, 431) and cut, so that thousands of them hold no more than their sockets, and those not for long.
"""

import asyncio
import http
import json
import socket
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOK_S: Final = 1.0
# A head is a request line and its headers; llhttp itself would read for ever.
HEAD_LIMIT: Final = 64 << 10
# Beside the time for any body: what the slowest usable link brings in a second.
SLOWEST: Final = 4 << 10
# For an answer whose reader takes nothing, and for the goodbye.
UNREAD_S: Final = 60.0
GOODBYE_S: Final = 5.0
# Connections of one address that have not sent a whole head yet; beyond it the one that waits longest goes.
WAITING_PER_ADDRESS: Final = 100


@dataclass
class Pace:
    """How long a head and a body may take, in seconds, and who is waited for: one for each server."""

    head_s: float = 15.0
    body_s: float = 30.0
    exempt: frozenset[str] = frozenset()
    waiting: dict[str, OrderedDict["Connection", None]] = field(default_factory=dict)


class Connection(HttpToolsProtocol):
    """One connection; its class carries the server's pace."""

    pace = Pace()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._waits_since: float | None = None
        self._head = 0
        self._body = self._body_s = self._unread_s = self._closing_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        self._timer = self.loop.call_later(LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._waits_since is None and self._is_idle():
            self._await_head()
        waited = self._waits_since is not None
        super().data_received(data)
        if self._waits_since is None:
            self._body += len(data)
        elif waited:
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self._end(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head has at most {HEAD_LIMIT} bytes")

    def on_headers_complete(self) -> None:
        self._head_came()
        self._body = self._body_s = 0.0
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        """From here on another protocol has the connection, with limits of its own."""
        if self._timer is not None:
            self._timer.cancel()
        super().handle_websocket_upgrade()

    def _is_idle(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)

    def _await_head(self) -> None:
        self._waits_since, self._head = self.loop.time(), 0
        address = self.client[0] if self.client else ""
        if address in self.pace.exempt:
            return
        mine = self.pace.waiting.setdefault(address, OrderedDict())
        mine[self] = None
        if len(mine) > WAITING_PER_ADDRESS:
            oldest, _ = mine.popitem(last=False)
            oldest._end(  # noqa: SLF001 - of the same class
                http.HTTPStatus.REQUEST_TIMEOUT, f"{WAITING_PER_ADDRESS} newer connections of this address wait too"
            )

    def _head_came(self) -> None:
        self._waits_since = None
        address = self.client[0] if self.client else ""
        if mine := self.pace.waiting.get(address):
            mine.pop(self, None)
            if not mine:
                del self.pace.waiting[address]

    def _look(self) -> None:
        """Every second: whoever is too slow is told and cut."""
        self._timer = self.loop.call_later(LOOK_S, self._look)
        if self.transport.is_closing():
            self._closing_s += LOOK_S
            if self._closing_s >= GOODBYE_S:
                self.transport.abort()
        elif self._waits_since is not None:
            if self.loop.time() - self._waits_since >= self.pace.head_s:
                self._end(http.HTTPStatus.REQUEST_TIMEOUT, f"the head took longer than {self.pace.head_s:g} seconds")
        elif self.flow.write_paused:
            self._unread_s += LOOK_S
            if self._unread_s >= UNREAD_S:
                self.transport.abort()
        elif self.cycle is not None and self.cycle.more_body and not self.flow.read_paused:
            self._body_s += LOOK_S
            if self._body_s > self.pace.body_s + self._body / SLOWEST:
                self._end(http.HTTPStatus.REQUEST_TIMEOUT, "the body came too slowly")

    def resume_writing(self) -> None:
        self._unread_s = 0.0
        super().resume_writing()

    def _end(self, code: http.HTTPStatus, detail: str) -> None:
        """Say why, where no answer has begun, and close."""
        self._head_came()
        if self.transport.is_closing():
            return
        if self._is_idle() or not self.cycle.response_started:
            name = code.phrase.lower().replace(" ", "-")
            document = {"type": f"urn:edgefleet:error:{name}", "title": code.phrase, "status": int(code)}
            body = json.dumps(document | {"detail": detail, "code": name, "element": "", "remedy": ""}).encode()
            self.transport.write(
                f"HTTP/1.1 {int(code)} {code.phrase}\r\nContent-Type: application/problem+json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
        self.transport.close()


def paced(pace: Pace) -> type[Connection]:
    """The connections of one server."""
    return type("PacedConnection", (Connection,), {"pace": pace})


class BoundedServer(uvicorn.Server):
    """Whoever does not go on with TLS is cut after ``handshake_s``."""

    def __init__(self, config: uvicorn.Config, *, handshake_s: float) -> None:
        super().__init__(config)
        self._handshake_s = handshake_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.config.is_ssl:
            # uvicorn has no setting for it, and asyncio waits for a minute.
            loop: Any = asyncio.get_running_loop()
            loop.create_server = partial(loop.create_server, ssl_handshake_timeout=self._handshake_s)
        await super().startup(sockets)
