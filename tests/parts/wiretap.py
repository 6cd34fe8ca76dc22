"""The broker's owner at work: sees which blocks a device asks for, and publishes what nobody should.

It uses the fleet server's own certificate under a client id of its own, so nothing keeps it from reading and writing
everything: what a hostile broker could do.
"""

import ssl
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fleet.folder import Folder
from modules.names import DeviceId
from modules.protocol import blobs as wire
from modules.protocol.topics import Topics
from tests.parts.mosquitto import Broker
from tests.parts.pace import stretched

_WAIT_S: Final = stretched(20.0)


class Wiretap:
    """Listens to one device: ``asked`` counts (digest, block) requests, ``orders`` are the envelopes, newest last.

    ``shared`` counts the (digest, block) that were broadcast, to whomever.
    """

    def __init__(self, data: Folder, broker: Broker, device: str) -> None:
        self._topics, self._device = Topics(broker.prefix), DeviceId(device)
        self._broker = broker
        self.asked: Counter[tuple[str, int]] = Counter()
        self.shared: Counter[tuple[str, int]] = Counter()
        self.orders: list[bytes] = []
        self._subscribed = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{type(self).__name__.lower()}-{device}")
        context = ssl.create_default_context(cafile=str(data.ca))
        context.load_cert_chain(data.service, data.key(data.service))
        self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.service_port)
        self._client.loop_start()
        assert self._subscribed.wait(_WAIT_S), "the broker does not answer"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    # The client's own thread adds to what is counted here.

    def blocks(self, digest: str) -> Counter[int]:
        """How often each block of a blob was asked for."""
        return Counter({number: times for (blob, number), times in list(self.asked.items()) if blob == digest})

    def broadcast(self, digest: str) -> Counter[int]:
        """How often each block of a blob was broadcast."""
        return Counter(
            {number: times for (blob, number), times in list(self.shared.items()) if blob == digest and times}
        )

    def say(self, level: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish anything at a topic below the device's ``down``, ``""`` for that level itself."""
        topic = self._topics.down(self._device, *filter(None, level.split("/")))
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(_WAIT_S)

    def give_order(self, envelope: bytes) -> None:
        """Publish an order, not retained, so that the broker goes back to what the server said."""
        sent = self._client.publish(self._topics.order(self._device), envelope, qos=1)
        sent.wait_for_publish(_WAIT_S)

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        shared = f"{self._topics.prefix}/_shared/#"
        client.subscribe([(self._topics.blob_get(self._device), 1), (self._topics.order(self._device), 1), (shared, 0)])

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        if message.topic == self._topics.order(self._device):
            self.orders.append(bytes(message.payload))
            return
        if blob := self._topics.of_shared_blob(message.topic):
            block = wire.decode_shared(bytes(message.payload))
            self.shared[blob, block.number] += bool(block.data)
            return
        get = wire.decode_get(bytes(message.payload))
        if isinstance(get, wire.BlobGet) and get.shared != wire.LEFT:
            self.asked.update((get.digest, number) for number in get.numbers)
