"""``make bench NAME=journey``: a release's way from its order to *committed*, and what the agent costs meanwhile.

The whole system on this machine, as ``make demo`` starts it: mosquitto with mutual TLS, fleet server, Docker, agent and
gateway. The image is on the device before the first measured rollout. The last line of the output is one JSON object.
"""

import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.table import Table

from deploy.demo import brokers
from deploy.demo.programs import python, run
from deploy.demo.steps import DIGITS, IMAGE, TEAM, Demo, console
from fleet.broker import tls_context
from fleet.client import config
from fleet.client.answers import Rollout
from fleet.client.api import Fleet
from fleet.folder import Folder
from modules.names import DeviceId
from modules.protocol.topics import Topics
from tests.benchmarks import bare_container
from tests.benchmarks.process_memory import Memory, settled, threads
from tests.benchmarks.releases import Releases
from tests.benchmarks.wire import OrderWatch
from tests.parts import docker
from tests.parts.presence import missing
from tests.parts.proxy import Proxy

ROLLOUTS = 7
PUBLISHED = 100
PROBATION_S = 1.0
QUIET_S = 20
IDLE_SAMPLES = 15
OTHER_SLOTS = ("second", "third")
COMPILED = ("agent", "hardware", "modules")
AGENT_IDLE_RSS_MB = 48.0
# What order to committed may take beyond `docker run` and probation.
OWN_S = 3.0
_WITHIN_S = 60
_LOOK_S = 0.1


class Device(Demo):
    """The demo's steps, with the agent's own pace instead of the demo's, and the tests' scoring image."""

    def agent_environment(self):
        return {name: value for name, value in super().agent_environment().items() if not name.endswith("_POLL_S")}

    def take_image(self, image: str) -> None:
        self.cli("images", "add", image, "--name", IMAGE)


@dataclass
class Found:
    """What was measured; seconds and bytes of each rollout, in order."""

    phases: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    order_to_committed: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    docker_run: list[float] = field(default_factory=list)
    first_answer: list[float] = field(default_factory=list)
    wire: list[int] = field(default_factory=list)
    module: list[int] = field(default_factory=list)
    idle: Memory = field(default_factory=lambda: Memory(0, 0, 0))
    threads: int = 0

    def figures(self) -> dict[str, float]:
        return {
            "agent_idle_rss_mb": round(self.idle.rss, 1),
            "agent_idle_pss_mb": round(self.idle.pss, 1),
            "agent_peak_rss_mb": round(self.idle.peak, 1),
            "order_to_committed_s": round(median(self.order_to_committed), 3),
            "probation_s": PROBATION_S,
            "docker_run_s": round(median(self.docker_run), 3),
            "wire_bytes": round(median(self.wire)),
            "module_bytes": round(median(self.module)),
        }


def main() -> int:
    """Measure and print; 1 if a target is missed."""
    if why := missing("mosquitto"):
        print(why, file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="edgefleet-journey-"))
    device = Device(folder, gateway_port=0)
    try:
        with docker.engine():
            try:
                found = _measure(device)
            finally:
                device.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _show(found)


def _measure(device: Device) -> Found:
    console.print("\n[bold]A fleet of one, on this machine[/]")
    engine = docker.client()
    image = device.step("scoring image", lambda: docker.scoring_image(engine))
    # As an installation does; what compiling leaves behind is not the agent's.
    device.step("compile the agent", lambda: run(python("-m", "compileall", "-q", *COMPILED)))
    device.step("make the fleet", device.make_fleet)
    broker = device.step(
        "start mosquitto",
        lambda: brokers.start(device.programs, device.folder / "broker", device.data, choice="mosquitto"),
    )
    with Proxy(broker.device_port) as proxy:
        return _measure_through(proxy, device, broker, engine, image)


def _measure_through(proxy: Proxy, device: Device, broker: brokers.Broker, engine, image: str) -> Found:
    url = device.step("start the fleet server", lambda: device.start_server(broker._replace(device_port=proxy.port)))
    device.step("make the signing keys", lambda: device.make_keys(url))
    device.step("take the image into the workspace", lambda: device.take_image(image))
    device.step("enrol", device.enroll)
    agent = device.step("start agent and gateway", device.start_device)

    tls = tls_context(ca=(data := Folder(device.data)).ca, certificate=data.service, key=data.key(data.service))
    watch = OrderWatch(broker.service_port, Topics().order(DeviceId(device.device)), tls=tls)
    home = device.folder / "client"
    settings = config.Config(url=url, token=data.operator_token.read_text().strip(), ca=data.ca.read_text())
    with Fleet(settings) as fleet:
        releases = Releases(fleet, home=home, keys=device.folder / "keys", team=TEAM)
        first = device.step("register and sign digits", lambda: _first(device))
        versions = device.step(f"draft and sign {PUBLISHED} modules", lambda: _publish(releases, first))
        rollouts = _Rollouts(fleet, device, watch, engine)
        device.step("roll out the first, with its image", lambda: rollouts.to(first, "digits"))
        found = Found()
        for version in versions:
            device.step(
                f"roll out {version}, then docker run",
                lambda ref=version: _one(rollouts, releases, proxy, ref, image, found),
            )
        for slot in OTHER_SLOTS:
            device.step(f"roll out to the slot {slot}", lambda slot=slot: rollouts.to(first, slot))
    device.step(f"be quiet for {QUIET_S} s", lambda: time.sleep(QUIET_S))
    found.idle = device.step("measure the idle agent", lambda: settled(agent, samples=IDLE_SAMPLES))
    found.threads = threads(agent)
    device.programs.check()
    watch.close()
    engine.close()
    return found


def _first(device: Device) -> str:
    ref = device.register()
    device.sign(ref)
    return ref


def _publish(releases: Releases, first: str) -> list[str]:
    """Draft the new versions that are to be rolled out; sign others, so that the team has published enough."""
    versions = [releases.next_version(first, number) for number in range(ROLLOUTS)]
    others = [releases.small(f"other-{number}", DIGITS / "digits.onnx") for number in range(PUBLISHED - ROLLOUTS - 1)]
    releases.sign(others)
    return versions


class _Rollouts:
    """Rollouts to the one device, each awaited until the device is done with it: old instance gone, report out."""

    def __init__(self, fleet: Fleet, device: Device, watch: OrderWatch, engine) -> None:
        self._fleet, self._device, self._watch, self._engine = fleet, device, watch, engine
        self._slots: set[str] = set()

    def to(self, ref: str, slot: str) -> tuple[Rollout, float]:
        """The finished rollout, and when its order was published."""
        self._slots.add(slot)
        device = self._device.device
        begun = self._fleet.start_rollout({"module": ref, "slot": slot, "devices": [device], "engine": "docker"})
        published = self._watch.next()
        ends = time.monotonic() + _WITHIN_S
        while (now := self._fleet.rollout(begun.id)).state == "running" or self._instances() != len(self._slots):
            assert time.monotonic() < ends, f"{ref} is not committed: {now}"
            time.sleep(_LOOK_S)
        assert now.state == "done", now
        return now, published

    def _instances(self) -> int:
        return len(self._engine.containers.list(filters={"label": f"edgefleet.device={self._device.device}"}))


def _one(rollouts: _Rollouts, releases: Releases, proxy: Proxy, ref: str, image: str, found: Found) -> None:
    # Only now: a device that has never seen this version has not seen its team's newest metadata either.
    releases.sign([ref])
    before = proxy.sent + proxy.received
    rollout, published = rollouts.to(ref, "digits")
    found.wire.append(proxy.sent + proxy.received - before)
    found.module.append(releases.size(ref))
    times = rollout.devices[0].times
    for (_, begun), (phase, reached) in pairwise((("published", published), *times)):
        found.phases[phase].append(reached - begun)
    found.order_to_committed.append(times[-1][1] - published)
    found.server.append(published - (rollout.created or published))
    found.docker_run.append(bare_container.run(image))
    found.first_answer.append(bare_container.first_answer(image, releases.folder(ref)))


def _show(found: Found) -> int:
    figures = found.figures()
    table = Table(title=f"\nfrom the order's publication to committed, {ROLLOUTS} rollouts", title_justify="left")
    for heading in ("until", "median s", "min", "max"):
        table.add_column(heading, justify="left" if heading == "until" else "right")
    rows = {**found.phases, "in all": found.order_to_committed}
    rows |= {
        "docker run, by itself": found.docker_run,
        "docker run -d to first 200": found.first_answer,
        "server: asked to published": found.server,
    }
    for name, values in rows.items():
        style = "bold" if name == "in all" else "dim" if name not in found.phases else ""
        table.add_row(name, f"{median(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}", style=style)
    console.print(table)
    console.print(
        f"  probation {PROBATION_S:g} s is in the line committed. published: seen at the broker by a second client.\n"
        "  docker run: `docker run --rm`, the same image, hardened and without network, `python -c pass`, to its end.\n"
        f"  wire: {figures['wire_bytes']:,} bytes per rollout, both ways through a TCP proxy before the broker (TLS"
        f" included; with metadata of {PUBLISHED} modules);\n"
        f"  module: {figures['module_bytes']:,} bytes without its image; its manifest and model are new.\n"
        f"  agent idle (connected, {1 + len(OTHER_SLOTS)} slots served, {QUIET_S} s after the last rollout):"
        f" RSS {found.idle.rss:.1f} MB, PSS {found.idle.pss:.1f} MB, peak RSS {found.idle.peak:.1f} MB,"
        f" {found.threads} threads.\n"
    )
    limits = {
        "agent_idle_rss_mb": AGENT_IDLE_RSS_MB,
        "order_to_committed_s": round(OWN_S + figures["docker_run_s"] + PROBATION_S, 3),
    }
    targets = {name: {"at_most": limit, "met": figures[name] <= limit} for name, limit in limits.items()}
    for name, target in targets.items():
        console.print(f"  {'met' if target['met'] else 'MISSED'}: {name} {figures[name]} <= {target['at_most']}")
    print(json.dumps({"benchmark": "journey", "figures": figures, "targets": targets}))
    return 0 if all(target["met"] for target in targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
