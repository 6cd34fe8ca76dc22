"""One client's connection: HTTP/1.1 from bytes to a whole :class:`Request`, and a :class:`Reply` back to bytes.

llhttp (through httptools) parses. What is here instead of a general web server is what scoring needs: an answer that
is ready at once costs no task, a refused body is not read, and what a client can make us keep or wait for is bounded.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Final

import httptools
import msgspec

from modules.scoring.http import framing
from modules.scoring.http.admission import Admission, Overloaded
from modules.scoring.http.app import App
from modules.scoring.http.replies import RETRY, Header, Reply, message
from modules.scoring.runtime import Request

log = logging.getLogger(__name__)

MAX_HEAD: Final = 64 << 10
MAX_URL: Final = 8 << 10
# Of a head that has not ended: more than both together, and than one read brings at once (asyncio's 256 KiB).
MAX_UNFINISHED: Final = 384 << 10
# Longer than clients keep idle connections, so that it is they who close them and none is cut while in use.
KEEP_ALIVE_S: Final = 75.0
HEAD_S: Final = 15.0
# A body, and an answer, may take this long plus the time that its bytes need at the slowest speed we put up with.
TRANSFER_S: Final = 30.0
SLOWEST_BYTES_PER_S: Final = 16 << 10
LINGER_S: Final = 2.0
_FOREVER: Final = float("inf")
_SMALL: Final = 64 << 10
# Asking these first spares most answers the slower question whether they are made as they are sent.
_WHOLE: Final = frozenset({bytes, bytearray, memoryview, tuple})
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Turn(msgspec.Struct, kw_only=True):
    """What is answered in its order on a connection: a request, or the refusal of one."""

    request: Request | None
    refusal: Reply | None
    identity: tuple[Header, ...]
    keep: bool
    chunks: bool
    held: int = 0


class Connection(asyncio.Protocol):
    """The protocol of one connection; ``deadline`` (loop time) is when the client has kept us waiting too long."""

    __slots__ = (
        "_admission", "_app", "_body", "_busy", "_declared", "_ending", "_fields", "_filled", "_head_size",
        "_heading", "_held", "_identity", "_loop", "_others", "_parser", "_partial", "_refusal", "_started",
        "_task", "_transport", "_turns", "_url", "_writable", "deadline",
    )  # fmt: skip

    def __init__(self, app: App, admission: Admission) -> None:
        self._app = app
        self._admission = admission
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._turns: deque[_Turn] = deque()
        self._busy = False
        self._partial = False
        self._heading: int | None = None
        self._ending = False
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Event | None = None
        self._held = 0
        self.deadline = _FOREVER

    # -- the transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio types it for datagrams too
        self.deadline = self._loop.time() + HEAD_S
        if not self._admission.enter(self):
            why = "this server is closing" if self._admission.draining else "too many connections"
            self._answer_alone(message(503, why, RETRY, close=True))

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._admission.leave(self)
        self._admission.release(self._held + sum(turn.held for turn in self._turns))
        self._held = 0
        self._turns.clear()
        if self._task is not None:
            # Later than its first step, before which nothing that it holds could be cleaned up.
            self._loop.call_soon(self._task.cancel)
        if self._writable is not None:
            self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse_rest(message(400, "this server speaks HTTP/1.1 and upgrades to nothing else", close=True))
        except httptools.HttpParserError as error:
            self._refuse_rest(message(400, f"this is not an HTTP request: {error}", close=True))
        if self._heading is not None:
            # The parser tells of a header when it is whole: what never ends is seen only here.
            self._heading += len(data)
            if self._refusal is not None or self._heading > MAX_UNFINISHED:
                self._refuse_rest(self._refusal or _too_long())
        if self._turns and self._busy:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        waiting = self._transport.get_write_buffer_size()
        self.deadline = self._loop.time() + TRANSFER_S + waiting / SLOWEST_BYTES_PER_S
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        if not self._ending:
            self.deadline = _FOREVER if self._busy else self._loop.time() + KEEP_ALIVE_S
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # -- the parser ---------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._fields: list[Header] = []
        self._head_size = 0
        self._refusal: Reply | None = None
        self._body: bytearray | list[bytes] = []
        self._declared: int | None = None
        self._filled = 0
        self._identity: tuple[Header, ...] = ()
        self._partial = True
        self._heading = 0
        if not self._busy:
            self.deadline = self._loop.time() + HEAD_S

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > MAX_URL:
            self._refusal = message(414, f"the address is longer than {MAX_URL} bytes", close=True)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEAD:
            self._refusal = _too_long()
        elif self._refusal is None:
            self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self._heading = None
        self._declared, expects, chunked, coding = framing.announced(self._fields)
        length = self._declared or 0
        self._started = self._loop.time()
        try:
            if self._refusal is not None:
                raise self._refusal
            self._identity = self._app.identify(self._fields)
            self._app.admit(self._url, self._fields, self._parser.get_method())
            if coding and (length or chunked):
                self._app.admit_coding(self._url, coding)
            if length:
                self._admission.check_length(length, self._fields)
                self._admission.hold(length)
                self._held += length
                if length > _SMALL:
                    self._body = bytearray(length)
        except (Reply, Overloaded) as refused:
            reply = refused if isinstance(refused, Reply) else refused.reply
            self._app.refused(reply, self._fields, self._parser.get_method())
            # A body that is on its way would have to be read to keep the connection.
            reply.close = reply.close or length > 0 or chunked
            self._refusal = reply
            if reply.close:
                self._partial = False
                self._take_turn(None, reply, keep=False)
            return
        if expects and not self._busy:
            self._transport.write(_CONTINUE)
        if not self._busy:
            self.deadline = self._started + TRANSFER_S

    def on_body(self, chunk: bytes) -> None:
        if self._refusal is not None:
            return
        start, self._filled = self._filled, self._filled + len(chunk)
        if isinstance(self._body, bytearray):
            self._body[start : self._filled] = chunk
        else:
            self._body.append(chunk)
            if self._declared is None:
                try:
                    self._admission.check_length(self._filled, self._fields)
                    self._admission.hold(len(chunk))
                    self._held += len(chunk)
                except Overloaded as refused:
                    self._refusal = refused.reply
                    self._refusal.close = True
                    self._partial = False
                    self._take_turn(None, self._refusal, keep=False)
        if not self._busy:
            self.deadline = self._started + TRANSFER_S + self._filled / SLOWEST_BYTES_PER_S

    def on_message_complete(self) -> None:
        if self._ending or (self._refusal is not None and self._refusal.close):
            return
        self._partial = False
        keep = self._parser.should_keep_alive()
        if self._refusal is not None:
            self._take_turn(None, self._refusal, keep=keep)
            return
        path, query = framing.target(self._url)
        parts = self._body
        body = parts if isinstance(parts, bytearray) else parts[0] if len(parts) == 1 else b"".join(parts)
        if len(body) > _SMALL:
            try:
                self._admission.check_weight(body, self._fields)
            except Overloaded as refused:
                self._body = []
                self._take_turn(None, refused.reply, keep=keep)
                return
        request = Request(
            id=self._identity[0][1].decode("ascii"), method=self._parser.get_method().decode("ascii"), path=path,
            query=query, raw_headers=tuple(self._fields), body=body,
        )  # fmt: skip
        self._body = []
        self._take_turn(request, None, keep=keep)

    # -- turns --------------------------------------------------------------------------------------------------------

    def _take_turn(self, request: Request | None, refusal: Reply | None, *, keep: bool) -> None:
        turn = _Turn(
            request=request, refusal=refusal, identity=self._identity, keep=keep and not self._admission.draining,
            chunks=self._parser.get_http_version() == "1.1", held=self._held,
        )  # fmt: skip
        self._held = 0
        self._turns.append(turn)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        """Answer turns until one takes time, or none is left."""
        while self._turns and not self._ending:
            turn = self._turns.popleft()
            self._busy = True
            reply: Reply | Awaitable[Reply] = turn.refusal or self._handle(turn.request)
            if isinstance(reply, Reply) and (type(reply.body) in _WHOLE or not isinstance(reply.body, AsyncIterator)):
                self._write(turn, reply)
                self._done(turn, reply)
            else:
                self.deadline = _FOREVER
                self._task = self._loop.create_task(self._later(turn, reply))
                # A task that is cancelled before its first step runs no line of its own.
                self._task.add_done_callback(partial(self._let_go, turn))
                return
        if not self._ending:
            self._transport.resume_reading()

    def _handle(self, request: Request | None) -> Reply | Awaitable[Reply]:
        assert request is not None  # noqa: S101 - a turn has one or a refusal
        try:
            return self._app.handle(request)
        except Exception:
            log.exception("a defect of this server", extra={"request_id": request.id})
            return message(500, "this server has a defect; its log says more")

    async def _later(self, turn: _Turn, reply: Reply | Awaitable[Reply]) -> None:
        finished = reply if isinstance(reply, Reply) else await self._awaited(turn, reply)
        if isinstance(finished.body, AsyncIterator):
            await self._stream(turn, finished, finished.body)
        else:
            self._write(turn, finished)
        self._task = None
        self._done(turn, finished)
        self._next()

    async def _awaited(self, turn: _Turn, reply: Awaitable[Reply]) -> Reply:
        try:
            return await reply
        except Exception:
            log.exception("a defect of this server", extra={"request_id": turn.request.id if turn.request else ""})
            return message(500, "this server has a defect; its log says more")

    def _done(self, turn: _Turn, reply: Reply) -> None:
        self._busy = False
        self._let_go(turn)
        if not turn.keep or reply.close or self._admission.draining:
            self._end()
        elif self._writable is None:
            self.deadline = self._loop.time() + KEEP_ALIVE_S

    def _let_go(self, turn: _Turn, _: object = None) -> None:
        self._admission.release(turn.held)
        turn.held = 0

    def _end(self) -> None:
        """No more requests: what was written is sent, what still comes is thrown away, for a short while."""
        self._ending = True
        self._turns.clear()
        if not self._refusal:
            self._transport.close()
            return
        # Closing with unread bytes would reset the connection before the client has read why it was refused.
        self.deadline = self._loop.time() + LINGER_S
        try:
            # TLS has no end of one direction alone: there the length of the answer says that it is whole.
            if self._transport.can_write_eof():
                self._transport.write_eof()
        except OSError:  # it has left already
            self._transport.abort()
            return
        self._transport.resume_reading()

    def _refuse_rest(self, reply: Reply) -> None:
        if self._ending or self._transport.is_closing():
            return
        self._refusal, self._heading = reply, None
        self._partial = False
        self._take_turn(None, reply, keep=False)

    def _answer_alone(self, reply: Reply) -> None:
        self._refusal = reply
        self._identity = ()
        self._take_turn(None, reply, keep=False)

    # -- writing ------------------------------------------------------------------------------------------------------

    def _head(self, turn: _Turn, reply: Reply, length: int | None) -> bytes:
        keep = turn.keep and not reply.close and not self._admission.draining
        end = self._admission.date
        return framing.head(reply, turn.identity, length=length, keep=keep, modern=turn.chunks, end=end)

    def _write(self, turn: _Turn, reply: Reply) -> None:
        parts = framing.parts(reply.body)
        length = sum(map(len, parts))
        head = self._head(turn, reply, length)
        if reply.status in framing.WITHOUT_BODY or (turn.request is not None and turn.request.method == "HEAD"):
            self._transport.write(head)
        elif length <= _SMALL:
            self._transport.write(b"".join((head, *parts)))
        else:
            self._transport.write(head)
            for part in parts:
                self._transport.write(part)

    async def _stream(self, turn: _Turn, reply: Reply, body: AsyncIterator[bytes]) -> None:
        if not turn.chunks:
            turn.keep = False
        self._transport.write(self._head(turn, reply, None))
        try:
            async for part in body:
                if part:
                    self._transport.write(b"%x\r\n%s\r\n" % (len(part), part) if turn.chunks else part)
                if self._writable is not None:
                    await self._writable.wait()
                if self._transport.is_closing():
                    return
            if turn.chunks:
                self._transport.write(b"0\r\n\r\n")
        except Exception:
            # The status is gone already: an answer that is cut short must not look complete.
            log.exception("the answer broke off", extra={"request_id": turn.request.id if turn.request else ""})
            self._transport.abort()
        finally:
            if close := getattr(body, "aclose", None):
                with contextlib.suppress(Exception):
                    await close()

    # -- time and end -------------------------------------------------------------------------------------------------

    def overdue(self) -> None:
        """The client kept us waiting too long: say so where it is in the middle of a request, and end."""
        if self._partial and not self._ending and not self._busy:
            self._refuse_rest(message(408, "the request did not come in time", close=True))
        else:
            self._transport.abort()

    def drain(self) -> None:
        """End after what is in flight, or now."""
        if not self._busy and not self._partial:
            self._transport.close()

    def abort(self) -> None:
        """End now; who has not sent a whole request is told that it will not be answered."""
        if self._partial and not self._busy and not self._ending:
            self._refuse_rest(message(503, "this server is closing", RETRY, close=True))
        self._transport.abort()


def _too_long() -> Reply:
    return message(431, f"the headers are longer than {MAX_HEAD} bytes", close=True)
