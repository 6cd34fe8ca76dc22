"""The network between a device and the broker: a TCP proxy that counts what it passes on, and may be slow."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_CHUNK = 16 << 10


class Proxy:
    """Passes connections on to a port; ``rate`` is in bytes per second towards whoever connected, 0 for no limit.

    ``received`` and ``sent`` count as whoever connected sees it: what a connection carries, TLS records and all.
    """

    def __init__(self, port: int, *, rate: float = 0.0) -> None:
        self._target, self.rate = port, rate
        self.received = self.sent = 0
        self._open = threading.Event()
        self._open.set()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listening = socket.create_server((HOST, 0))
        self.port = int(self._listening.getsockname()[1])
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.set()
        # A socket that is only closed keeps the thread that waits in it.
        for end in (self._listening, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)

    def swallow(self) -> None:
        """From now on nothing arrives, and nobody is told: connections stay as they are."""
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
                far = socket.create_connection((HOST, self._target))
            except OSError:
                return
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [near, far]
            self._run(self._pump, near, far)
            self._run(self._slow_pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._open.wait()
                sink.sendall(data)
                self.sent += len(data)
        _end(source, sink)

    def _slow_pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._open.wait()
                sink.sendall(data)
                self.received += len(data)
                if self.rate:
                    time.sleep(len(data) / self.rate)  # the slowness itself
        _end(source, sink)

    def _run(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
