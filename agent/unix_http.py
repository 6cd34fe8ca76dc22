"""HTTP over a Unix socket with the standard library: for the container engine and for the modules' own sockets."""

import http.client
import socket
from typing import NamedTuple


class Answer(NamedTuple):
    """Status, headers with lower-case names, and body."""

    status: int
    headers: dict[str, str]
    body: bytes


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket; ``timeout`` in seconds bounds each wait for the peer."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def request(
    path: str, method: str, target: str, *, body: bytes = b"", content_type: str = "", timeout: float, limit: int
) -> Answer:
    """One request and its answer of at most ``limit`` bytes. Blocking.

    Raises:
        OSError: nothing listens, or it stopped answering (TimeoutError).
        http.client.HTTPException: what came is no HTTP, or longer than the limit.
    """
    connection = UnixConnection(path, timeout)
    try:
        connection.request(method, target, body or None, {"Content-Type": content_type} if content_type else {})
        response = connection.getresponse()
        data = response.read(limit + 1)
        if len(data) > limit:
            raise http.client.HTTPException(f"the answer is longer than {limit} bytes")
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)
    finally:
        connection.close()
