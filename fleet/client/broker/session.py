"""One session with a broker under one certificate, as bluntly as an attacker would have it; blocking."""

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from fleet.doors import WITHIN_S, Place
from modules.errors import LinkLost


class Will(NamedTuple):
    """What the broker is to say when the session breaks."""

    topic: str
    payload: bytes


class Session:
    """A session that is up. ``heard`` are the messages that came, as topic and payload, in order."""

    def __init__(self, client: mqtt.Client) -> None:
        self._client = client
        self.heard: list[tuple[str, bytes]] = []
        self._news = threading.Condition()
        self._ended = threading.Event()
        client.on_message = self._on_message
        client.on_disconnect = lambda *_: self._ended.set()

    @property
    def up(self) -> bool:
        return not self._ended.is_set()

    def subscribe(self, *filters: str) -> None:
        """Ask for topics. What the broker answers says nothing about rights: only what comes then does."""
        granted = threading.Event()
        self._client.on_subscribe = lambda *_: granted.set()
        self._client.subscribe([(one, 1) for one in filters])
        granted.wait(WITHIN_S)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1 and wait for the receipt, or for the end of the session; neither is an error here."""
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        ends = time.monotonic() + WITHIN_S
        with contextlib.suppress(RuntimeError, ValueError):  # how the library says that there is no session
            while not sent.is_published() and self.up and time.monotonic() < ends:
                time.sleep(0.01)

    def hears(self, payload: bytes, *, within_s: float = WITHIN_S) -> bool:
        """Whether a message with these bytes comes in time."""
        with self._news:
            return self._news.wait_for(lambda: any(said == payload for _, said in self.heard), within_s)

    def ends(self, *, within_s: float) -> bool:
        """Whether the broker ends the session in time."""
        return self._ended.wait(within_s)

    def break_off(self) -> None:
        """Go without a goodbye, so that the broker says the will."""
        if (plain := self._client.socket()) is not None:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(plain.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        with self._news:
            self.heard.append((message.topic, bytes(message.payload)))
            self._news.notify_all()


@contextmanager
def session(
    place: Place,
    identifier: str,
    *,
    certificate: Path,
    will: Will | None = None,
) -> Iterator[Session]:
    """A session that ends with the block.

    Raises:
        LinkLost: the broker does not let it in; the message is its reason, or the TLS library's.
    """
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=identifier, protocol=mqtt.MQTTv311)
    client.connect_timeout = WITHIN_S
    context = ssl.create_default_context(cafile=str(place.ca))
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    client.tls_set_context(context)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1)
    answered = threading.Event()
    refused: list[str] = []

    def connected(_client: object, _data: object, _flags: object, code: ReasonCode, _properties: object) -> None:
        if code.is_failure:
            refused.append(str(code))
        answered.set()

    client.on_connect = connected
    made = Session(client)
    where = f"{place.host}:{place.port}"
    try:
        client.connect(place.host, place.port, keepalive=60)
        client.loop_start()
        ends = time.monotonic() + WITHIN_S
        while not answered.wait(0.02) and made.up and time.monotonic() < ends:
            pass
        if refused or not answered.is_set():
            raise LinkLost(refused[0] if refused else "the broker ends the connection", element=where)
        yield made
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise LinkLost(str(error), element=where) from error
    finally:
        client.disconnect()
        client.loop_stop()
