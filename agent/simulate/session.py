"""Sessions with the broker for thousands of devices in one event loop: the simulator's only use of the MQTT library.

paho's client without its thread, its socket watched by the loop: measured at 4 kB each, and no task of its own. With
mutual TLS one context is shared: OpenSSL keeps a session's own certificate, so the next device's can take its place.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from agent.clock import backoff
from modules.errors import BadSettings, LinkLost
from modules.protocol.enrollment import JoinBundle

_LONGEST_WAIT_S: Final = 30.0
# Messages that wait for the broker's receipt; a device has a handful.
_INFLIGHT: Final = 20


class Door:
    """Where the broker listens, and how devices show who they are: with their certificates, or not at all."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None, keepalive_s: int = 60) -> None:
        self.host, self.port, self.keepalive_s = host, port, keepalive_s
        self._tls = tls
        # One at a time: a certificate is loaded into the shared context, then used.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="connect")

    @classmethod
    def of(cls, join: JoinBundle) -> "Door":
        """The fleet's own broker, with mutual TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=join.broker.ca or join.ca)
        except (ssl.SSLError, ValueError) as error:
            raise BadSettings(f"its authorities are not certificates: {error}", element="join bundle") from error
        return cls(join.broker.host, join.broker.port, tls=context)

    def prepare(self, client: mqtt.Client) -> None:
        if self._tls is not None:
            client.tls_set_context(self._tls)

    async def open(self, client: mqtt.Client, identity: Path) -> None:
        """Connect; a handshake keeps a worker busy, not the loop."""
        if self._tls is None:
            client.connect(self.host, self.port, self.keepalive_s)
        else:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._open, client, identity)

    def _open(self, client: mqtt.Client, identity: Path) -> None:
        assert self._tls is not None  # noqa: S101 - for mypy
        self._tls.load_cert_chain(identity)
        client.connect(self.host, self.port, self.keepalive_s)

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)


class Session:
    """One device's session, which comes back by itself until it is closed or dropped."""

    __slots__ = (
        "_client",
        "_door",
        "_failures",
        "_identity",
        "_loop",
        "_on_down",
        "_on_up",
        "_reopen",
        "_retry",
        "_wanted",
        "_writing",
        "up",
    )

    def __init__(
        self,
        door: Door,
        name: str,
        identity: Path,
        *,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        reopen: Callable[[], None],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        self._door, self._identity = door, identity
        self._on_up, self._on_down, self._reopen = on_up, on_down, reopen
        self._loop = asyncio.get_running_loop()
        self._failures = 0
        self._wanted = self._writing = self.up = False
        self._retry: asyncio.TimerHandle | None = None
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311)
        client.username_pw_set(name)
        client.max_inflight_messages_set(_INFLIGHT)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_socket_open = _quick
        client.on_socket_close = self._forget
        client.on_message = lambda _client, _data, message: on_message(message.topic, bytes(message.payload))
        door.prepare(client)
        self._client = client

    async def open(self, will: tuple[str, bytes]) -> None:
        """Connect, and stay so; ``will`` is the topic and payload that the broker publishes if we are lost."""
        self._wanted = True
        self._client.will_set(will[0], will[1], qos=1, retain=True)
        try:
            await self._door.open(self._client, self._identity)
        except (OSError, ValueError):
            self._again()
            return
        if (found := self._client.socket()) is not None:
            self._loop.add_reader(found, self._read)
            self._flush()

    def subscribe(self, topic: str, *, qos: int = 1) -> None:
        self._client.subscribe(topic, qos=qos)
        self._flush()

    def unsubscribe(self, topic: str) -> None:
        self._client.unsubscribe(topic)
        self._flush()

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Hand a message to the broker.

        Raises:
            LinkLost: there is no session.
        """
        if not self.up:
            raise LinkLost("there is no session with the broker", element=self._door.host)
        self._client.publish(topic, payload, qos=qos, retain=retain)
        self._flush()

    def tend(self) -> None:
        """Now and then: ping a quiet broker, notice a dead one."""
        if self._client.socket() is not None:
            self._client.loop_misc()
            self._flush()

    def drop(self) -> None:
        """Break off without a word, so that the broker publishes the will."""
        self._stop()
        if isinstance(found := self._client.socket(), socket.socket):
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
            self._read()  # and finds the end

    def close(self) -> None:
        """Say goodbye; what was published before goes out first."""
        self._stop()
        self._client.disconnect()
        self._flush()
        self._down()

    @property
    def waiting(self) -> bool:
        """Whether something has not been written yet."""
        return self._client.socket() is not None and self._client.want_write()

    def _stop(self) -> None:
        self._wanted = False
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _again(self) -> None:
        if self._wanted:
            self._failures += 1
            wait = backoff(self._failures, most_s=_LONGEST_WAIT_S)
            self._retry = self._loop.call_later(wait, self._reopen)

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            return
        self.up, self._failures = True, 0
        self._on_up()

    def _disconnected(self, *_: Any) -> None:
        self._down()
        self._again()

    def _down(self) -> None:
        if self.up:
            self.up = False
            self._on_down()

    def _forget(self, _client: Any, _data: Any, found: Any) -> None:
        self._loop.remove_reader(found)
        self._loop.remove_writer(found)
        self._writing = False

    def _read(self) -> None:
        self._client.loop_read()
        # TLS hands over in records: what it holds back makes the socket readable no more.
        while isinstance(found := self._client.socket(), ssl.SSLSocket) and found.pending():
            self._client.loop_read()
        self._flush()

    def _flush(self) -> None:
        if self._client.want_write():
            self._client.loop_write()
        if (found := self._client.socket()) is not None:
            if self._client.want_write() and not self._writing:
                self._loop.add_writer(found, self._flush)
                self._writing = True
            elif self._writing and not self._client.want_write():
                self._loop.remove_writer(found)
                self._writing = False


def _quick(_client: Any, _data: Any, found: Any) -> None:
    """Without it a pull is five to eleven times slower."""
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
