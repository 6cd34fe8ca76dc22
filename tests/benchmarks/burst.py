"""How quickly the fleet server takes in what arrives, beside a bare subscriber that gets the same."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt

from agent.simulate import identities
from fleet.broker import tls_context
from fleet.folder import Folder
from modules import canonical
from modules.names import DeviceId
from modules.protocol.report import STATUS_LIMIT, Ack, Report
from modules.protocol.telemetry import HOST as HOST_STREAM
from modules.protocol.telemetry import Sample, Telemetry
from modules.protocol.topics import Topics
from modules.signing import REPORT_TYPE, TELEMETRY_TYPE, sign
from tests.parts.mosquitto import HOST

# Fewer than the broker keeps for one subscriber, so that none is lost.
MESSAGES = 8000
BYTES = 200
REPORTS = 2000
_WITHIN_S = 120
_ROOT = Path(__file__).parents[2]


class Burst:
    """A client with the service's rights, which speaks for devices whose keys lie in the simulator's folder."""

    def __init__(self, data: Folder, port: int, state: Path, names: list[DeviceId]) -> None:
        self._data, self._port, self._state, self._names = data, port, state, names
        self._topics = Topics()
        # The last report of each device that is not acknowledged yet.
        self._pending: dict[str, int] = {}
        # Above every number that the simulator has used, which begins at the clock.
        self._number = int(time.time() * 1000) + 10_000_000
        self._done, self._ready = threading.Event(), threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="burst")
        self._client.max_inflight_messages_set(200)
        self._client.tls_set_context(tls_context(ca=data.ca, certificate=data.service, key=data.key(data.service)))
        self._client.on_connect = lambda *_: self._client.subscribe(f"{self._topics.prefix}/+/down/ack", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._acknowledged
        self._client.connect(HOST, port)
        self._client.loop_start()
        assert self._ready.wait(_WITHIN_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def settle(self) -> None:
        """Wait until the server has taken in what came before, the goodbyes of all devices for one."""
        self._until_acknowledged(lambda: self._publish([self._report(self._names[0])]))

    def reports(self) -> float:
        """Signed reports a second, from the first that is published to the last acknowledgement."""
        names = self._names[:REPORTS]
        rounds = -(-REPORTS // len(names))
        signed = [self._report(name) for _ in range(rounds) for name in names]
        return len(signed) / self._until_acknowledged(lambda: self._publish(signed))

    def telemetry(self) -> float:
        """Signed telemetry a second, from the first message that is published to the last acknowledgement."""
        names = self._names[:REPORTS]
        rounds = -(-REPORTS // len(names))
        signed = [self._measured(name) for _ in range(rounds) for name in names]

        def publish() -> None:
            for name, envelope in signed:
                self._client.publish(self._topics.telemetry(name, HOST_STREAM), envelope, qos=1)

        return len(signed) / self._until_acknowledged(publish)

    def server(self) -> float:
        """Messages of 200 bytes a second that the server takes and ignores; a report behind them tells the end."""
        name = self._names[0]
        last = [self._report(name)]
        topic, payload = self._topics.up(name, "nothing", "load"), b"x" * BYTES

        def publish() -> None:
            for _ in range(MESSAGES):
                self._client.publish(topic, payload, qos=0)
            self._publish(last)

        return MESSAGES / self._until_acknowledged(publish)

    def bare(self) -> float:
        """The same messages, a second, to a subscriber that only counts them."""
        topic = self._topics.down(self._names[0], "load")
        data = self._data
        files = [str(data.ca), str(data.service), str(data.key(data.service))]
        command = [sys.executable, "-m", "tests.benchmarks.bare_subscriber", str(self._port), *files, topic]
        with subprocess.Popen([*command, str(MESSAGES)], cwd=_ROOT, stdout=subprocess.PIPE, text=True) as subscriber:
            assert subscriber.stdout is not None
            assert subscriber.stdout.readline().strip() == "ready"
            for _ in range(MESSAGES):
                self._client.publish(topic, b"x" * BYTES, qos=0)
            return MESSAGES / float(subscriber.stdout.readline())

    def _until_acknowledged(self, publish: Callable[[], None]) -> float:
        self._done.clear()
        began = time.monotonic()
        publish()
        assert self._done.wait(_WITHIN_S), f"reports of {len(self._pending)} devices were not acknowledged"
        return time.monotonic() - began

    def _publish(self, signed: list[tuple[DeviceId, bytes]]) -> None:
        for name, envelope in signed:
            self._client.publish(self._topics.report(name), envelope, qos=1)

    def _report(self, name: DeviceId) -> tuple[DeviceId, bytes]:
        self._number += 1
        self._pending[name] = self._number
        report = Report(device=name, number=self._number, issued=time.time(), order=0, agent="0")
        signer = identities.signer(self._state, name)
        return name, sign(canonical.encode(report), payload_type=REPORT_TYPE, signers=[signer])

    def _measured(self, name: DeviceId) -> tuple[DeviceId, bytes]:
        self._number += 1
        self._pending[name] = self._number
        sample = Sample(at=time.time(), figures={"cpu_percent": 12.5})
        said = Telemetry(device=name, stream=HOST_STREAM, number=self._number, issued=time.time(), samples=(sample,))
        signer = identities.signer(self._state, name)
        return name, sign(canonical.encode(said), payload_type=TELEMETRY_TYPE, signers=[signer])

    def _acknowledged(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        name = self._topics.parse(message.topic).device
        ack = canonical.decode(message.payload, Ack, limit=STATUS_LIMIT, what="ack")
        # Reports and telemetry share one row of numbers here.
        if name in self._pending and max(ack.report, ack.telemetry) >= self._pending[name]:
            del self._pending[name]
            if not self._pending:
                self._done.set()
