"""When one device's orders reach the broker: looked at from outside the agent."""

import queue
import ssl
import threading
import time

import paho.mqtt.client as mqtt

from deploy.demo.programs import HOST

_WAIT_S = 30


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
