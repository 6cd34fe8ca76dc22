"""``make bench NAME=pull``: a blob of 100 MB on its way to a device, over MQTT and over HTTPS, in the same run.

mosquitto and the fleet server with mutual TLS on loopback, and in this process what an agent pulls with: its session,
its puller and its lane, block by block to the disk. The ways take turns. The last line of the output is one JSON
object.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import identity as identities
from agent.blobs import BlobStore
from agent.clock import SystemClock
from agent.enroll import enroll
from agent.fetch import Puller
from agent.https_lane import HttpsLane
from agent.link import Link
from fleet.db import Database
from modules import canonical
from modules import manifest as manifests
from modules.digests import Blob, measure_bytes
from modules.names import DeviceId
from modules.protocol.topics import Parsed
from tests.benchmarks.process_memory import memory
from tests.doubles.device import join
from tests.doubles.publisher import Publisher, checked, module
from tests.doubles.rights import ordered
from tests.parts.fleet_server import FleetServer, fleet_server, initialise
from tests.parts.mosquitto import broker

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Took:
    """One pull: seconds, and CPU seconds of server, broker and this process."""

    s: float
    server_s: float
    broker_s: float
    device_s: float


def cpu(process: int | str) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def stored(server: FleetServer, device: DeviceId, data: bytes) -> Blob:
    """Put a blob on the server, in a module that the device is ordered to have."""
    manifest = module("acme", "large", "1", {"model.onnx": data})
    with server.client() as http:
        for one in (data, manifests.encode(manifest)):
            checked(http.put(f"/api/v1/blobs/{measure_bytes(one).sha256}", content=one))
    database = Database.at(server.data.database)
    ordered(database, device, manifest)
    database.close()
    return manifest.files[0]


async def pulled(state: Path, blob: Blob, way: str, processes: dict[str, int]) -> Took:
    """One pull into an empty folder, with a session of its own."""
    folder = state / "identity"
    identity, clock = identities.load(folder), SystemClock()
    connected = asyncio.Event()

    async def on_connect() -> None:
        connected.set()

    def on_message(topic: Parsed, payload: bytes) -> None:
        if topic.rest[0] == "blob":
            puller.on_block(payload)

    async def ask(payload: bytes) -> None:
        await link.publish(link.topics.blob_get(identity.device), payload, qos=0)

    parts: dict[str, Any] = {"on_message": on_message, "on_connect": on_connect, "next_boot": lambda: 1}
    link = Link(identity, folder, **parts, keepalive_s=60, clock=clock)
    lane = HttpsLane(identity.blob_url, folder, clock)
    puller = Puller(ask, timeout_s=5, tries=5, lane=None if way == "mqtt" else lambda: lane)
    session = asyncio.create_task(link.run())
    with tempfile.TemporaryDirectory(dir=state) as blobs:
        try:
            await connected.wait()
            before = {name: cpu(one) for name, one in processes.items()}
            begun = time.monotonic()
            await puller.blob(blob, BlobStore(Path(blobs)))
            took = time.monotonic() - begun
            used = {name: round(cpu(one) - before[name], 3) for name, one in processes.items()}
        finally:
            session.cancel()
            await asyncio.wait([session])
    assert puller.detour == "", puller.detour
    return Took(took, used["server"], used["broker"], used["device"])


def main() -> int:
    """Measure, print a table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = random.Random(1).randbytes(options.mb * 1_000_000)
    found: dict[str, list[Took]] = {"mqtt": [], "https": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = initialise(folder / "data")
        with broker(folder / "broker", made) as running, fleet_server(made, running, blob_port="0") as server:
            with server.client() as http:
                Publisher(http).found()
                bundle = canonical.encode(join(http))
            enroll(bundle, folder / "identity")
            blob = stored(server, identities.load(folder / "identity").device, data)
            processes = {"server": server.process.pid, "broker": running.process.pid, "device": os.getpid()}
            for _ in range(options.rounds):
                for way, took in found.items():
                    took.append(asyncio.run(pulled(folder, blob, way, processes)))
            rss = {"server_rss_mb": memory(server.process.pid).peak}
    return told(found, options.mb, rss)


def told(found: dict[str, list[Took]], mb: int, more: dict[str, Any]) -> int:
    """Print what was found, as medians."""
    figures: dict[str, Any] = {"blob_mb": mb} | more
    print(f"{'way':6} {'s':>7} {'MB/s':>7} {'server CPU s':>13} {'broker CPU s':>13} {'device CPU s':>13}")
    for way, took in found.items():
        medians = {part: statistics.median(getattr(one, part) for one in took) for part in Took.__annotations__}
        figures |= {f"{way}_{part}": round(value, 3) for part, value in medians.items()}
        print(
            f"{way:6} {medians['s']:7.2f} {mb / medians['s']:7.0f} {medians['server_s']:13.2f} "
            f"{medians['broker_s']:13.2f} {medians['device_s']:13.2f}"
        )
    figures["mqtt_vs_https"] = round(figures["mqtt_s"] / figures["https_s"], 2)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
