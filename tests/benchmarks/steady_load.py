"""Reports of a large fleet at a steady rate through the broker, and how soon the server has each in its database.

``python -m tests.benchmarks.steady_load PLAN``: signs what it will say, says *ready*, begins when a line comes in,
and ends some seconds after the last report with what it found as one JSON object. A process of its own: whoever
measures has enough to do.
"""

import json
import statistics
import sys
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import paho.mqtt.client as mqtt

from fleet.broker import tls_context
from fleet.folder import Folder
from modules import canonical
from modules.names import DeviceId
from modules.protocol.report import STATUS_LIMIT, Ack, Report
from modules.protocol.topics import Topics
from modules.signing import REPORT_TYPE, sign, signer_from_pem
from tests.parts.mosquitto import HOST

# A report is lost when nothing at all was acknowledged for so long.
LATE_S: Final = 40.0
# As a device does, which says its newest report again: the broker keeps so many for a server that is behind, no more.
_AGAIN_S: Final = 10.0
_BEAT_S: Final = 0.05
_WORKERS: Final = 2


class Plan(msgspec.Struct, frozen=True):
    """What is said: by whom, with which key, how often and how long; ``reports`` by kind of device, as they were."""

    port: int
    data: str
    rate: int
    seconds: float
    number: int
    names: tuple[str, ...]
    keys: tuple[str, ...]
    reports: tuple[bytes, ...]


class Load:
    """Publishes, and keeps what waits for its acknowledgement: by device, in order."""

    def __init__(self, plan: Plan) -> None:
        self._topics, self._lock = Topics(), threading.Lock()
        self._waiting: dict[str, deque[tuple[int, float, bytes]]] = defaultdict(deque)
        self.lags: list[float] = []
        self.ends = float("inf")
        self.in_time = self.said_again = 0
        self._ready = threading.Event()
        data = Folder(Path(plan.data))
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="steady-load")
        self._client.max_inflight_messages_set(1000)
        self._client.tls_set_context(tls_context(ca=data.ca, certificate=data.service, key=data.key(data.service)))
        self._client.on_connect = lambda *_: self._client.subscribe(f"{self._topics.prefix}/+/down/ack", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._acknowledged
        self._client.connect(HOST, plan.port)
        self._client.loop_start()
        assert self._ready.wait(60)

    def publish(self, name: str, number: int, envelope: bytes) -> None:
        with self._lock:
            self._waiting[name].append((number, time.monotonic(), envelope))
        self._client.publish(self._topics.report(DeviceId(name)), envelope, qos=1)

    def again(self) -> None:
        """Say the newest of each device again that is not acknowledged."""
        with self._lock:
            newest = [(name, one[-1][2]) for name, one in self._waiting.items() if one]
        self.said_again += len(newest)
        for name, envelope in newest:
            self._client.publish(self._topics.report(DeviceId(name)), envelope, qos=1)

    def left(self) -> int:
        with self._lock:
            return sum(len(one) for one in self._waiting.values())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _acknowledged(self, _client: object, _data: object, message: mqtt.MQTTMessage) -> None:
        name = self._topics.parse(message.topic).device
        ack = canonical.decode(message.payload, Ack, limit=STATUS_LIMIT, what="ack")
        now = time.monotonic()
        with self._lock:
            waiting = self._waiting[str(name)]
            while waiting and waiting[0][0] <= ack.report:
                self.lags.append(now - waiting.popleft()[1])
                self.in_time += now <= self.ends


def signed(plan: Plan, which: range) -> list[tuple[str, int, bytes]]:
    """Reports that devices say one after the other; a device's next has a number above those before."""
    signers = [signer_from_pem(one.encode()) for one in plan.keys]
    as_they_were = [msgspec.json.decode(one, type=Report) for one in plan.reports]
    found = []
    for at in which:
        device = at * 7919 % len(plan.names)  # all over the fleet
        name, number, kind = plan.names[device], plan.number + at, device % len(plan.keys)
        said = msgspec.structs.replace(as_they_were[kind], device=DeviceId(name), number=number, issued=time.time())
        found.append((name, number, sign(canonical.encode(said), payload_type=REPORT_TYPE, signers=[signers[kind]])))
    return found


def main() -> None:
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    count = int(plan.rate * plan.seconds)
    with ProcessPoolExecutor(_WORKERS) as pool:
        parts = [range(start, min(start + 2000, count)) for start in range(0, count, 2000)]
        said = [one for part in pool.map(signed, [plan] * len(parts), parts) for one in part]
    load = Load(plan)
    print("ready", flush=True)
    sys.stdin.readline()
    began, late = time.monotonic(), 0.0
    load.ends = began + plan.seconds
    for at, one in enumerate(said):
        due = began + at / plan.rate
        now = time.monotonic()
        if due > now + _BEAT_S:
            time.sleep(due - now)
        late = max(late, now - due)
        load.publish(*one)
    left = load.left()
    since = said_again = time.monotonic()
    while left and time.monotonic() < since + LATE_S:
        time.sleep(_BEAT_S)
        if (now := load.left()) != left:
            left, since = now, time.monotonic()
        elif time.monotonic() > max(since, said_again) + _AGAIN_S:
            load.again()
            said_again = time.monotonic()
    print(json.dumps(_found(load, count, plan.seconds, late)), flush=True)
    load.close()


def _found(load: Load, count: int, seconds: float, late: float) -> dict[str, Any]:
    lags = sorted(load.lags) or [float("inf")]
    return {
        "said": count,
        "lost": load.left(),
        "again": load.said_again,
        "per_s": round(load.in_time / seconds, 1),
        "lag_p50_s": round(statistics.median(lags), 3),
        "lag_p99_s": round(lags[int(len(lags) * 0.99)], 3),
        "behind_s": round(late, 2),  # how far whoever speaks was behind its own plan
    }


if __name__ == "__main__":
    main()
