"""What goes over one device's connection, and when its orders reach the broker: looked at from outside the agent."""

import contextlib
import queue
import socket
import ssl
import threading
import time

import paho.mqtt.client as mqtt

from deploy.demo.programs import HOST

_PIECE = 1 << 16
_WAIT_S = 30


class CountingProxy:
    """A TCP proxy on loopback; ``bytes`` counts what crossed it both ways: TLS records, so all but TCP/IP headers."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._server = socket.create_server((HOST, 0))
        self.port = self._server.getsockname()[1]
        self.bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection((HOST, self._to))
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._open.append(one)
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE):
                with self._lock:
                    self.bytes += len(piece)
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


class OrderWatch:
    """A second reader of one device's order topic, with the service's rights: it sees an order as the broker has it."""

    def __init__(self, port: int, topic: str, *, tls: ssl.SSLContext) -> None:
        self._topic = topic
        self._seen: queue.Queue[float] = queue.Queue()
        self._subscribed = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="journey-watch")
        self._client.tls_set_context(tls)
        self._client.on_connect = lambda client, *_: client.subscribe(topic)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect(HOST, port)
        self._client.loop_start()
        assert self._subscribed.wait(_WAIT_S), f"no subscription to {topic}"

    def next(self) -> float:
        """When the next order that nobody has asked about yet was published, in Unix seconds."""
        return self._seen.get(timeout=_WAIT_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        if not message.retain:
            self._seen.put(time.time())
