"""``make bench NAME=fleet``: what a fleet of simulated devices costs broker and server, and how soon it is updated.

mosquitto, the fleet server and the simulator on this machine, at each size (``ARGS="--sizes 100,1000,10000"``). Up to
1 000 devices speak mutual TLS, more come by a listener without TLS on loopback. Each sends telemetry of 200 bytes every
30 seconds, signed and kept by the server as a real device's. Then a module of 256 kB is rolled out in five waves. Then,
in another fleet, one of 10 MB in one wave of 500 (``--broadcast 0``: not; ``tests/benchmarks/broadcast.py`` does it).
The last line of the output is one JSON object.
"""

import argparse
import json
import math
import os
import secrets
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.simulate import identities
from fleet.blobs import Blobs
from fleet.db import Database
from fleet.folder import Folder
from fleet.metadata import Metadata
from fleet.mishaps import Mishaps
from fleet.orders import Orders
from fleet.registry import Registry
from fleet.rollouts.engine import Engine
from modules.manifest import Proof
from tests.benchmarks import broadcast
from tests.benchmarks.burst import Burst
from tests.benchmarks.process_memory import memory
from tests.doubles.device import join
from tests.doubles.publisher import Publisher, checked
from tests.parts.fleet_server import FleetServer, fleet_server, initialise
from tests.parts.mosquitto import HOST, broker, free_port
from tests.parts.simulator import Simulator, enroll, simulator

SIZES = (100, 1000)
MOST_WITH_TLS = 1000
MODULE_BYTES = 256_000
WAVES = [{"percent": percent} for percent in (1, 5, 25, 50, 100)]
LOAD = ("--load-every", "30", "--load-bytes", "200")
PROBATION_S = 1.0
QUIET_S = 10.0
TICKS = 30
_LOOK_S = 0.5
_CONNECT_S = 600.0
_TICK = os.sysconf("SC_CLK_TCK")
# What a fleet of 10 000 may cost on two cores that it has for itself.
TARGETS = {
    "cost_per_device_10000_vs_100": ("at_most", 1.3),
    "rollout_s_10000": ("at_most", 240.0),
    "server_cpu_s_10000": ("at_most", 80.0),
    "server_rss_mb": ("at_most", 500.0),
    "ingest_share_of_bare": ("at_least", 0.5),
    "reports_per_s": ("at_least", 1000.0),
    "arrival_p99_s": ("at_most", 5.0),
    # With 1 000 devices it takes 0.4 ms: a tick without news is the same few look-ups.
    "idle_tick_ms_10000": ("at_most", 2.0),
    **broadcast.TARGETS,
}


@dataclass
class Found:
    """What was measured at one size. Seconds, MB (1,000,000 bytes), CPU seconds of the server's process."""

    size: int
    tls: bool
    enrol_s: float
    connect_s: float
    device_kb: float
    rollout_s: float
    server_cpu_s: float
    idle_cpu_share: float
    server_rss_mb: float
    broker_rss_mb: float
    reports: int
    arrival_p99_s: float
    reports_per_s: float = 0.0
    telemetry_per_s: float = 0.0
    server_per_s: float = 0.0
    bare_per_s: float = 0.0
    idle_tick_ms: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench NAME=fleet", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of devices, separated by commas")
    parser.add_argument("--broadcast", type=int, default=broadcast.DEVICES, help="devices of the broadcast; 0: none")
    parser.add_argument("--rollout-s", type=float, default=900.0, help="how long a rollout may take")
    arguments = parser.parse_args()
    found = []
    for size in map(int, arguments.sizes.split(",")):
        with tempfile.TemporaryDirectory(prefix="edgefleet-bench-") as folder:
            found.append(_measure(Path(folder), size, arguments.rollout_s))
            _show(found[-1])
    shared = None
    if arguments.broadcast:
        with tempfile.TemporaryDirectory(prefix="edgefleet-bench-") as folder:
            shared = broadcast.measure(Path(folder), arguments.broadcast)
    return _end(found, shared)


def _measure(folder: Path, size: int, rollout_s: float) -> Found:
    data, tls, plain = initialise(folder / "fleet"), size <= MOST_WITH_TLS, free_port()
    more = "" if tls else f"\nlistener {plain} {HOST}\nallow_anonymous true\nmax_connections -1\n"
    limits = {"connections": size + 100, "memory_mb": 4096}
    with broker(folder / "broker", data, more=more, **limits) as running:
        with fleet_server(data, running) as server, server.client() as http:
            owner = Publisher(http)
            owner.found()
            enrolled = enroll(folder / "devices", join(http, uses=size), size)
            _say(f"enrolled {size} in {enrolled['seconds']} s")
            way = LOAD if tls else (*LOAD, "--plain", f"{HOST}:{plain}")
            probation = ("--probation", str(PROBATION_S))
            with simulator(folder / "devices", size, *way, *probation, within_s=_CONNECT_S) as devices:
                found = _roll_out(devices, server, http, owner, size, rollout_s)
                found.enrol_s, found.tls = enrolled["seconds"], tls
                found.broker_rss_mb = round(memory(running.process.pid).peak, 1)
            found.reports = devices.summary["done"]["reports"]
            burst = Burst(data, running.service_port, folder / "devices", identities.names(size, "sim"))
            burst.settle()
            found.bare_per_s, found.server_per_s = round(burst.bare()), round(burst.server())
            found.reports_per_s = round(burst.reports())
            found.telemetry_per_s = round(burst.telemetry())
            burst.close()
            found.server_rss_mb = round(memory(server.process.pid).peak, 1)
        found.arrival_p99_s = _arrival(data, devices)
        found.idle_tick_ms = _idle_tick(data)
    return found


def _roll_out(devices: Simulator, server: FleetServer, http: Any, owner: Publisher, size: int, most_s: float) -> Found:
    ready = json.loads(devices.ready.read_text())
    _say(f"connected {ready['connected']} in {ready['seconds']} s, {ready['memory_kb_per_device']} kB each")
    pid = server.process.pid
    began, cpu = time.monotonic(), _cpu(pid)
    time.sleep(QUIET_S)
    idle = (_cpu(pid) - cpu) / (time.monotonic() - began)
    manifest = owner.upload("bench", {"model.onnx": secrets.token_bytes(MODULE_BYTES)}, proof=Proof(prove="ready-only"))
    owner.sign(manifest)
    began, cpu = time.monotonic(), _cpu(pid)
    body = {"module": str(manifest.ref), "slot": "bench", "engine": "process", "policy": {"waves": WAVES}}
    rollout = checked(http.post("/api/v1/rollouts", json=body)).json()["id"]
    told, state = began, "running"
    while state == "running" and time.monotonic() - began < most_s:
        time.sleep(_LOOK_S)
        # The list says no more than the state; a rollout's own page has all of its devices.
        shown = next(one for one in checked(http.get("/api/v1/rollouts")).json() if one["id"] == rollout)
        state = shown["state"]
        if time.monotonic() - told > 10:
            told = time.monotonic()
            _say(f"{told - began:.0f} s: wave {shown['wave']} of {shown['waves']}, {shown['waits_for']}")
    if state != "done":
        _say(f"NOT DONE: {state}: {shown['waits_for']}")
    return Found(
        size=size,
        tls=True,
        enrol_s=0.0,
        connect_s=ready["seconds"],
        device_kb=ready["memory_kb_per_device"],
        rollout_s=round(time.monotonic() - began, 1) if state == "done" else math.inf,
        server_cpu_s=round(_cpu(pid) - cpu, 2),
        idle_cpu_share=round(idle, 3),
        server_rss_mb=0.0,
        broker_rss_mb=0.0,
        reports=0,
        arrival_p99_s=0.0,
    )


def _arrival(data: Folder, devices: Simulator) -> float:
    """From the transaction that changed a device's order until the device had it: the 99th percentile, in seconds."""
    with sqlite3.connect(data.database) as connection:
        changed = dict(connection.execute("select device, at from slot_revisions where slot = 'bench'"))
    arrived = {one["device"]: one["arrived"] for one in devices.record() if one["what"] == "order"}
    took = sorted(arrived[name] - at for name, at in changed.items() if name in arrived)
    return round(took[int(len(took) * 0.99)], 3) if took else math.inf


def _idle_tick(data: Folder) -> float:
    """The median of some ticks in which nothing has happened, in milliseconds, on the database as it was left."""
    clock = time.time
    database, blobs, mishaps = Database.at(data.database), Blobs(data.blobs), Mishaps(clock)
    registry = Registry(blobs)
    director = Metadata(database, blobs, registry, data, clock).director
    engine = Engine(database, registry, Orders(lambda _connection: director, life_s=30 * 86400), clock, mishaps)
    while engine.tick():
        pass
    took = []
    for _ in range(TICKS):
        began = time.perf_counter()
        engine.tick()
        took.append(time.perf_counter() - began)
    database.close()
    return round(statistics.median(took) * 1000, 2)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has had, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _show(found: Found) -> None:
    print(f"\n{found.size} devices, {'mutual TLS' if found.tls else 'without TLS, on loopback'}")
    for name, value in vars(found).items():
        if name not in {"size", "tls"}:
            print(f"  {name:<18} {value:>12}")


def _end(found: list[Found], shared: broadcast.Found | None) -> int:
    by_size = {one.size: one for one in found}
    largest = found[-1]
    figures: dict[str, float | None] = {
        "reports_per_s": largest.reports_per_s,
        "telemetry_per_s": largest.telemetry_per_s,
        "ingest_share_of_bare": round(largest.server_per_s / largest.bare_per_s, 3),
        "server_rss_mb": largest.server_rss_mb,
        "arrival_p99_s": largest.arrival_p99_s,
        "broadcast_bytes_ratio": shared.broadcast_bytes_ratio if shared else None,
    }
    for one in found:
        figures |= {
            f"rollout_s_{one.size}": one.rollout_s,
            f"server_cpu_s_{one.size}": one.server_cpu_s,
            f"idle_tick_ms_{one.size}": one.idle_tick_ms,
            f"enrol_s_{one.size}": one.enrol_s,
            f"device_kb_{one.size}": one.device_kb,
        }
        if one.size > found[0].size:
            ratio = (one.server_cpu_s / one.size) / (found[0].server_cpu_s / found[0].size)
            figures[f"cost_per_device_{one.size}_vs_{found[0].size}"] = round(ratio, 3)
    targets = {}
    for name, (way, limit) in TARGETS.items():
        value = figures.get(name)
        if value is not None:
            targets[name] = {way: limit, "met": value <= limit if way == "at_most" else value >= limit}
            print(f"  {'met' if targets[name]['met'] else 'MISSED'}: {name} {value}, {way.replace('_', ' ')} {limit}")
    assert by_size
    print(json.dumps({"benchmark": "fleet", "figures": figures, "targets": targets}))
    return 0 if all(one["met"] for one in targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
