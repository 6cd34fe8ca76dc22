"""``make bench NAME=broadcast``: what the server sends for one wave in which all devices pull the same module.

500 simulated devices with mutual TLS, mosquitto, which fans the blocks out for real, and the fleet server, with all
that it sends to the broker counted on the way: blocks, invitations, orders, receipts, and TLS around them. Then a
module of 10 MB is rolled out in one wave. The last line of the output is one JSON object.
"""

import argparse
import json
import math
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.manifest import Proof
from tests.benchmarks.process_memory import memory
from tests.doubles.device import join
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.proxy import Proxy
from tests.parts.simulator import enroll, simulator

DEVICES = 500
MODULE_BYTES = 10_000_000
ONE_WAVE = {"waves": [{"percent": 100}]}
TARGETS = {"broadcast_bytes_ratio": ("at_most", 1.2)}
_CONNECT_S = 300.0
_LOOK_S = 0.5


@dataclass
class Found:
    """Bytes that the server sent in the wave, by the module's; seconds, MB (1,000,000 bytes)."""

    devices: int
    broadcast_bytes_ratio: float
    blocks_ratio: float
    wave_s: float
    state: str
    broker_rss_mb: float
    stalled: int


def measure(folder: Path, devices: int = DEVICES, *, most_s: float = 600.0, **settings: str) -> Found:
    """One wave, with everything real; ``folder`` is empty."""
    data = initialise(folder / "fleet")
    with (
        broker(folder / "broker", data, connections=devices + 100, memory_mb=4096) as running,
        Proxy(running.service_port) as way,
        fleet_server(data, running._replace(service_port=way.port), **settings) as server,
        server.client() as http,
    ):
        owner = Publisher(http)
        owner.found()
        enroll(folder / "devices", join(http, uses=devices), devices)
        with simulator(folder / "devices", devices, "--probation", "1", within_s=_CONNECT_S) as simulated:
            files = {"model.onnx": secrets.token_bytes(MODULE_BYTES)}
            manifest = owner.upload("bench", files, proof=Proof(prove="ready-only"))
            owner.sign(manifest)
            began, sent, blocks = time.monotonic(), way.sent, _block_bytes(http)
            body = {"module": str(manifest.ref), "slot": "bench", "engine": "process", "policy": ONE_WAVE}
            rollout = checked(http.post("/api/v1/rollouts", json=body)).json()["id"]
            state = "running"
            while state == "running" and time.monotonic() - began < most_s:
                time.sleep(_LOOK_S)
                shown = next(one for one in checked(http.get("/api/v1/rollouts")).json() if one["id"] == rollout)
                state = shown["state"]
            took, sent, blocks = time.monotonic() - began, way.sent - sent, _block_bytes(http) - blocks
        return Found(
            devices=devices,
            # A wave that did not end has sent too little.
            broadcast_bytes_ratio=round(sent / MODULE_BYTES, 3) if state == "done" else math.inf,
            blocks_ratio=round(blocks / MODULE_BYTES, 3),
            wave_s=round(took, 1),
            state=state,
            broker_rss_mb=round(memory(running.process.pid).peak, 1),
            stalled=simulated.summary["done"].get("stalled", 0),
        )


def _block_bytes(http: Any) -> float:
    """What the server says that it has published of blobs and metadata."""
    lines = checked(http.get("/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("edgefleet_block_bytes_total"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=broadcast", description=__doc__)
    parser.add_argument("--devices", type=int, default=DEVICES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgefleet-bench-") as folder:
        found = measure(Path(folder), arguments.devices)
    for name, value in vars(found).items():
        print(f"  {name:<22} {value:>12}")
    ratio = found.broadcast_bytes_ratio
    met = ratio <= TARGETS["broadcast_bytes_ratio"][1]
    figures = {name: value for name, value in vars(found).items() if name != "state"}
    targets = {"broadcast_bytes_ratio": {"at_most": TARGETS["broadcast_bytes_ratio"][1], "met": met}}
    print(json.dumps({"benchmark": "broadcast", "figures": figures, "targets": targets}))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
