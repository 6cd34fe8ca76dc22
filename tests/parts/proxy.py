"""The network between a device and the broker: a TCP proxy that counts what it passes on, and may be slow."""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
_CHUNK = 16 << 10
# A slow link passes on what it carries in this time at once.
_STEP_S = 0.25


class Proxy:
    """Passes connections on to a port; ``rate`` is in bytes per second towards whoever connected, 0 for no limit.

    ``latency_s`` is how long each byte is under way, in either direction. ``received`` and ``sent`` count as whoever
    connected sees it: what a connection carries, TLS records and all.
    """

    def __init__(self, port: int, *, rate: float = 0.0, latency_s: float = 0.0) -> None:
        self._target, self.rate, self.latency_s = port, rate, latency_s
        self.received = self.sent = 0
        self._open = threading.Event()
        self._open.set()
        self._cut = False
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

    def cut(self) -> None:
        """End every connection, and each that comes from now on, until :meth:`mend`."""
        self._cut = True
        _end(*self._ends)

    def mend(self) -> None:
        """Pass connections on again."""
        self._cut = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
                if self._cut:
                    near.close()
                    continue
                far = socket.create_connection((HOST, self._target))
            except OSError:
                return
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [near, far]
            self._run(self._pump, near, self._delayed(far))
            self._run(self._slow_pump, far, self._delayed(near))

    def _delayed(self, sink: socket.socket) -> "_Way":
        """The way to ``sink``, on which each byte is ``latency_s`` under way."""
        way = _Way(sink, self.latency_s)
        self._run(way.deliver)
        return way

    def _pump(self, source: socket.socket, sink: "_Way") -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._open.wait()
                sink.send(data)
                self.sent += len(data)
        sink.end(source)

    def _slow_pump(self, source: socket.socket, sink: "_Way") -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(min(_CHUNK, max(1, int(self.rate * _STEP_S))) if self.rate else _CHUNK):
                self._open.wait()
                if self.rate:
                    time.sleep(len(data) / self.rate)  # the slowness itself
                sink.send(data)
                self.received += len(data)
        sink.end(source)

    def _run(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)


class _Way:
    """One direction of a connection: what is sent arrives a while later, in order."""

    def __init__(self, sink: socket.socket, latency_s: float) -> None:
        self._sink, self._latency_s = sink, latency_s
        self._under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def send(self, data: bytes) -> None:
        if self._latency_s:
            self._under_way.put((time.monotonic() + self._latency_s, data))
        else:
            self._sink.sendall(data)

    def end(self, source: socket.socket) -> None:
        self._under_way.put((0.0, b""))
        _end(source, self._sink)

    def deliver(self) -> None:
        with contextlib.suppress(OSError):
            while (due := self._under_way.get())[1]:
                time.sleep(max(0.0, due[0] - time.monotonic()))
                self._sink.sendall(due[1])


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
