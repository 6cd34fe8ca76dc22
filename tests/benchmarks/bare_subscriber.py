"""A subscriber that does nothing but count: what the broker and the MQTT library alone can do.

``python -m tests.benchmarks.bare_subscriber PORT CA CERTIFICATE KEY TOPIC COUNT`` says *ready*, then how many seconds
lay between the first and the last message.
"""

import sys
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from fleet.broker import tls_context
from tests.parts.mosquitto import HOST


def main() -> None:
    port, ca, certificate, key, topic, count = sys.argv[1:]
    times: list[float] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bare")
    client.tls_set_context(tls_context(ca=Path(ca), certificate=Path(certificate), key=Path(key)))

    def arrived(*_: object) -> None:
        times.append(time.monotonic())
        if len(times) == int(count):
            client.disconnect()

    client.on_connect = lambda *_: client.subscribe(topic, qos=1)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = arrived
    client.connect(HOST, int(port))
    client.loop_forever()
    print(times[-1] - times[0], flush=True)


if __name__ == "__main__":
    main()
