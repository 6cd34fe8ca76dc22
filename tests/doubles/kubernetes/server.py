"""The listener: real HTTP/1.1 over TLS, a thread for each connection, watches as chunks."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from tests.doubles.kubernetes.credentials import Authority
from tests.doubles.kubernetes.faults import Fault, Faults, answer
from tests.doubles.kubernetes.refusals import Refused, expired
from tests.doubles.kubernetes.routes import Answer, Request, Routes

_ADDRESS = "127.0.0.1"


class Asked(msgspec.Struct, frozen=True):
    """A request that was answered, for tests that look at what was written, and how often."""

    method: str
    address: str
    code: int
    body: bytes

    @property
    def writes(self) -> bool:
        return self.method != "GET"


class Server:
    """``asked`` lists what was answered; ``errors`` what the double itself did wrong, which ends its test."""

    def __init__(self, routes: Routes, faults: Faults, authority: Authority) -> None:
        self.routes = routes
        self.faults = faults
        self.asked: list[Asked] = []
        self.errors: list[BaseException] = []
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._http = _Listener((_ADDRESS, 0), _Handler)
        self._http.owner = self
        self._http.context = authority.server(_ADDRESS)
        self.address = f"{_ADDRESS}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="kubernetes double")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends every connection, and waits for their threads."""
        self._http.shutdown()
        self._thread.join()
        for connection in [*self._connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()

    def opened(self, connection: socket.socket) -> None:
        self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        self._connections.discard(connection)


class _Listener(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128
    owner: Server
    context: Any

    def handle_error(self, request, client_address):
        """A client that leaves is no error of ours."""

    def finish_request(self, request, client_address):
        """TLS in the connection's own thread, so that a slow client holds nobody up."""
        request.settimeout(60)
        self.owner.opened(request)
        try:
            secured = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return
        finally:
            self.owner.closed(request)
        self.owner.opened(secured)
        try:
            self.RequestHandlerClass(secured, client_address, self)
        except OSError:
            pass
        except BaseException as error:  # noqa: BLE001 - shown when the double ends
            self.owner.errors.append(error)
        finally:
            self.owner.closed(secured)
            with contextlib.suppress(OSError):
                secured.close()


class _Handler(BaseHTTPRequestHandler):
    server: _Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body, self.connection.getpeercert() or None)
        fault = self.server.owner.faults.meet(self.command, self.path)
        if fault is not None and fault.do in {"reset", "hang"}:
            self._break(fault, request)
            return
        if fault is not None and fault.do == "slow":
            self.server.owner.faults.over.wait(fault.seconds)
            fault = None
        try:
            said = self._decide(request, fault)
        except Refused as refused:
            said = Answer(refused.code, refused.status, refused.headers)
        self.server.owner.asked.append(Asked(self.command, self.path, said.code, body))
        self._send(said)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _decide(self, request: Request, fault: Fault | None) -> Answer:
        if fault is not None and fault.do == "expire":
            gone = {"type": "ERROR", "object": expired("too old resource version: 1 (2)").status}
            return Answer(200, iter([gone]))
        if fault is not None:
            raise answer(fault)
        return self.server.owner.routes.handle(request, self.server.owner.address)

    def _break(self, fault: Fault, request: Request) -> None:
        if fault.after:
            with contextlib.suppress(Refused):
                self.server.owner.routes.handle(request, self.server.owner.address)
        if fault.do == "hang":
            self.server.owner.faults.over.wait()
        self.close_connection = True
        # Closing with a linger of zero is a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, said: Answer) -> None:
        self.send_response(said.code)
        for name, value in said.headers.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-cache, private")
        if isinstance(said.said, Iterator):
            self._stream(said.said)
            return
        if isinstance(said.said, bytes):
            data = said.said
        else:
            text = isinstance(said.said, str)
            data = said.said.encode() if text else (json.dumps(said.said, separators=(",", ":")) + "\n").encode()
            self.send_header("Content-Type", "text/plain" if text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for event in events:
            data = (json.dumps(event, separators=(",", ":")) + "\n").encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        pass
