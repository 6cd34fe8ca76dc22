"""HTTP over a Unix socket with the standard library: for the container engine, which is trusted; never for a module."""

import http.client
import socket


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket; ``timeout`` in seconds bounds each wait for the peer."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
