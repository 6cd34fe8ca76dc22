"""What the hostile modules are made of: a socket, and the answers that they are told to give. Runs in the container.

It stands beside a module's script, which imports it and says only what is hostile about it.
"""

import os
import signal
import socket
import threading
from pathlib import Path

PLACE = "/run/edgefleet/s.sock"
# The test puts it there. A module that wants to look honest for a while would ask the clock.
TURNED = "/module/files/turned"
RIGHT = b'{"y": [1.0]}'
STATUS = b'{"ready": true, "provider_in_use": "CPUExecutionProvider"}'


def turned() -> bool:
    """Whether it has been honest for long enough."""
    return Path(TURNED).exists()


def head(*fields: bytes, first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((first, b"Content-Type: application/json", *fields)) + b"\r\n\r\n"


def answer(body: bytes, *fields: bytes) -> bytes:
    """A proper answer."""
    return head(b"Content-Length: %d" % len(body), *fields) + body


def listen(place: str = PLACE) -> socket.socket:
    os.umask(0o007)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    return listener


def serve(listener=None, **answers) -> None:
    """Answer for ever. ``health``, ``status`` and ``score`` are bytes, or functions of the connection and the request
    (head and body) that return bytes to send; None ends the connection."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    told = {"health": answer(b"{}"), "status": answer(STATUS), "score": answer(RIGHT)} | answers
    waiting = listener or listen()
    while True:
        connection, _ = waiting.accept()
        threading.Thread(target=_talk, args=(connection, told), daemon=True).start()


def _talk(connection: socket.socket, told) -> None:
    try:
        with connection:
            while (request := _read(connection)) is not None:
                path = request.split(b" ", 2)[1].partition(b"?")[0]
                what = told[{b"/": "health", b"/edgefleet/status": "status"}.get(path, "score")]
                said = what(connection, request) if callable(what) else what
                if said is None:
                    return
                connection.sendall(said)
    except OSError:
        pass  # whoever asked has had enough


def _read(connection: socket.socket) -> bytes | None:
    request = b""
    while b"\r\n\r\n" not in request:
        if not (some := connection.recv(65536)):
            return None
        request += some
    start, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in start.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < length and (some := connection.recv(65536)):
        body += some
    return start + b"\r\n\r\n" + body
