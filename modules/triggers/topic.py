"""A topic of a broker: each message is scored and its answer published; only then is the message acknowledged.

So a message is answered at least once. One that cannot be answered goes to a topic of its own, with the reason, and is
acknowledged, too: no message is tried for ever. Two of one text are two messages.
"""

import base64
import hashlib
import logging
import queue
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from modules.errors import NeedsOperator
from modules.triggers.inputs import Inputs, Poison, Stopping
from modules.triggers.settings import TriggerSettings, address, poison

# Messages that a broker may have given us and that are not acknowledged: more wait with the broker.
HELD: Final = 10
# How long a broker keeps our session, and what comes for it, while we are away.
SESSION_S: Final = 7 * 24 * 3600
_KEEPALIVE_S: Final = 30
_LOOK_S: Final = 0.25
_log = logging.getLogger("modules.triggers")


class Message(NamedTuple):
    """As the broker gave it, in which of our connections; ``mark`` is what the sender knows the answer by."""

    topic: str
    body: bytes
    number: int
    qos: int
    again: bool
    connection: int
    mark: bytes | None

    @property
    def name(self) -> str:
        return hashlib.sha256(self.topic.encode() + b"\0" + (self.mark or b"") + b"\0" + self.body).hexdigest()


class Topic:
    """One session with a broker, which the client library opens again for as long as it takes.

    Raises:
        BadSettings: as :func:`modules.triggers.settings.address`.
        NeedsOperator: a certificate or a key cannot be used.
    """

    def __init__(self, settings: TriggerSettings, inputs: Inputs) -> None:
        import paho.mqtt.client as mqtt  # noqa: PLC0415  only in an image that answers messages
        from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415  as above
        from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415  as above
        from paho.mqtt.properties import Properties  # noqa: PLC0415  as above

        self._settings, self._inputs = settings, inputs
        self._waiting: queue.Queue[Message] = queue.Queue()
        self._lock = threading.Lock()
        self._connection = 0
        self._refused = ""
        self._received = threading.Condition()
        self._with_broker: set[int] = set()
        self._unsaid: dict[str, None] = {}
        properties: Any = Properties
        self._properties: Callable[[], Any] = lambda: properties(PacketTypes.PUBLISH)
        client: Any = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=settings.client, protocol=mqtt.MQTTv5, manual_ack=True
        )
        broker = address(settings.broker)
        if broker.user:
            client.username_pw_set(broker.user, _password(settings.password_file))
        if broker.tls:
            client.tls_set_context(_tls(settings))
        client.reconnect_delay_set(1, 30)
        client.on_connect, client.on_message, client.on_subscribe = self._connected, self._arrived, self._subscribed
        client.on_publish, client.on_connect_fail = self._published, self._unreached
        known = properties(PacketTypes.CONNECT)
        known.SessionExpiryInterval, known.ReceiveMaximum = SESSION_S, HELD
        client.connect_async(broker.host, broker.port, keepalive=_KEEPALIVE_S, clean_start=False, properties=known)
        client.loop_start()
        self._client = client

    def look(self) -> int:
        """Answer the next message; returns how many there were.

        Raises:
            Stopping, NotReady: as :meth:`Inputs.answer`.
            NeedsOperator: the broker lets us neither read nor write.
        """
        self._expect_let()
        try:
            message = self._waiting.get(timeout=_LOOK_S)
        except queue.Empty:
            return 0
        name = message.name
        if message.again and name in self._unsaid:
            # It was answered, and the connection ended before that could be said.
            del self._unsaid[name]
        else:
            place = self._settings.output
            try:
                answer = self._inputs.answer(name, "", message.body, "application/json")
            except Poison as why:
                place, answer = poison(self._settings.output), _told(message, str(why))
                _log.error("a message at %r is set aside: %s", message.topic, why)
            self._publish(place, answer, message.mark)
        self._inputs.receipts.forget(name)
        with self._lock:
            # The numbers of another connection are other messages'.
            if message.connection != self._connection:
                self._unsaid[name] = None
            elif message.qos:
                self._client.ack(message.number, message.qos)
        while len(self._unsaid) > HELD:
            del self._unsaid[next(iter(self._unsaid))]
        return 1

    def close(self) -> None:
        """Say good-bye; what is not acknowledged comes again."""
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self, place: str, body: bytes, mark: bytes | None) -> None:
        """Return once the broker has it."""
        properties = self._properties()
        if mark is not None:
            properties.CorrelationData = mark
        # Without a connection the library keeps it, and sends it with the next one.
        number = self._client.publish(place, body, qos=1, properties=properties).mid
        with self._received:
            while number not in self._with_broker:
                self._received.wait(_LOOK_S)
                if self._inputs.stopping.is_set():
                    raise Stopping
            self._with_broker.discard(number)
        self._expect_let()

    def _expect_let(self) -> None:
        if self._refused:
            raise NeedsOperator(
                self._refused, element=self._settings.broker,
                remedy="let this client subscribe to the one topic and publish to the other, and to its /poison",
            )  # fmt: skip

    def _connected(self, client: Any, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _log.error("the broker does not let us in: %s", reason)
            return
        with self._lock:
            self._connection += 1
            # What was not begun comes again in this connection.
            while not self._waiting.empty():
                self._waiting.get_nowait()
        _log.info("connected to the broker%s", "" if flags.session_present else ", in a new session")
        if flags.session_present:
            _log.info("answering what comes at %s", self._settings.input)
        else:
            client.subscribe(self._settings.input, qos=1)

    def _unreached(self, _client: Any, _data: Any) -> None:
        _log.warning("the broker at %s does not answer", self._settings.broker)

    def _subscribed(self, _client: Any, _data: Any, _number: int, reasons: Any, _properties: Any) -> None:
        if any(one.is_failure for one in reasons):
            self._refused = f"the broker lets us not subscribe to {self._settings.input}: {reasons[0]}"
        else:
            _log.info("answering what comes at %s", self._settings.input)

    def _published(self, _client: Any, _data: Any, number: int, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = f"the broker takes no answer of ours: {reason}"
        with self._received:
            self._with_broker.add(number)
            self._received.notify_all()

    def _arrived(self, _client: Any, _data: Any, message: Any) -> None:
        mark = getattr(message.properties, "CorrelationData", None) if message.properties else None
        with self._lock:
            self._waiting.put(
                Message(
                    message.topic, bytes(message.payload), message.mid, message.qos, bool(message.dup),
                    self._connection, mark,
                )
            )  # fmt: skip


def _told(message: Message, why: str) -> bytes:
    body = base64.b64encode(message.body).decode()
    return msgspec.json.encode({"why": why, "topic": message.topic, "message": body})


def _password(file: str) -> str | None:
    return Path(file).read_text(encoding="utf-8").strip() if file else None


def _tls(settings: TriggerSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca or None)
        if settings.certificate:
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ValueError) as error:
        raise NeedsOperator(
            f"the certificates cannot be used: {error}", element=settings.certificate or settings.ca,
            remedy="mount files in PEM, the key without a passphrase, readable for this container's user",
        ) from error  # fmt: skip
    return context
