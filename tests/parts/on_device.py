"""A device: the real agent and the real gateway as processes, with folders of their own."""

import http.client
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import docker

from agent.slots import Slot
from agent.store import Store
from tests.parts.mosquitto import free_port
from tests.parts.presence import engine_socket
from tests.parts.programs import Program, run, until
from tests.parts.system import System

_ENDED = {"rejected", "reverted"}
_LOOPBACK = "127.0.0.1"


class Scored(NamedTuple):
    """An answer of the gateway's."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:
        assert self.status == http.client.OK, f"{self.status}: {self.body[:500]!r}"
        return json.loads(self.body)


class OnDevice:
    """One enrolled device; ``engine`` is the container engine's socket, ``settings`` are the agent's.

    ``program`` is the Python module that is run as the agent; ``gateway`` are more options of the gateway.
    """

    def __init__(
        self, system: System, name: str, *, engine: str | None = None, program: str = "agent",
        gateway: tuple[str, ...] = (), **settings: str
    ) -> None:  # fmt: skip
        self.system, self.name = system, name
        self.folder = system.folder / name
        self.state, self.runtime = self.folder / "state", self.folder / "run"
        self.state.mkdir(parents=True)
        self.engine = engine or engine_socket()
        given = {
            "STATE": str(self.state),
            "RUNTIME": str(self.runtime),
            "DOCKER_SOCKET": self.engine,
            "POLL_S": "0.5",
            "PULL_RETRY_S": "0.5",
            "STOP_GRACE_S": "5",
            # What most journeys look at is the way over the broker.
            "PULL_BY": "mqtt",
        } | {name.upper(): value for name, value in settings.items()}
        self.environment = {f"EDGEFLEET_AGENT_{name}": value for name, value in given.items()}
        self.environment["EDGEFLEET_AGENT_GATEWAY_ADDRESS"] = f"{_LOOPBACK}:{free_port()}"
        table, ready = self.runtime / "gateway" / "table.json", self.folder / "gateway-ready"
        arguments = ("--table", str(table), *gateway)
        self.agent = Program(
            "agent", [sys.executable, "-m", program, "run"], self.folder / "agent.log", environment=self.environment
        )
        self.gateway = Program(
            "gateway",
            [sys.executable, "-m", "agent.gateway", *arguments, "--ready-file", str(ready)],
            self.folder / "gateway.log",
            environment=self.environment,
        )
        self._table, self._ready = table, ready

    def enroll(self, *, through: int = 0) -> None:
        """Join the fleet; ``through`` is the port of a proxy before the broker."""
        bundle = self.folder / "join.json"
        self.system.cli("devices", "join", "--out", bundle)
        self.command("enroll", bundle, "--name", self.name)
        if through:
            path = self.state / "identity" / "device.json"
            document = json.loads(path.read_text())
            document["broker"]["port"] = through
            path.write_text(json.dumps(document))

    def start(self) -> None:
        """Agent and gateway; returns when the server knows what this device is."""
        self.agent.start(ready=self._table.exists)
        self.start_gateway()
        path = f"devices/{self.name}"
        self.until(lambda: self.system.api(path)["facts"], "the server has its facts")

    def start_gateway(self) -> None:
        self._ready.unlink(missing_ok=True)
        self.gateway.start(ready=self._ready.exists)
        self.port = int(self._ready.read_text().rsplit(":", 1)[1])

    def command(self, *arguments: str | Path) -> str:
        """``edgefleet-agent ARGUMENTS`` on the device."""
        return run("agent", *arguments, environment=self.environment)

    def until(self, look: Any, what: str, *, within_s: float = 60.0) -> Any:
        return until(look, f"{self.name}: {what}", within_s=within_s, said=self.said)

    def slot(self, name: str) -> Slot | None:
        """What the device remembers of a slot, read beside the agent."""
        return next((one for one in self.slots() if one.slot == name), None)

    def slots(self) -> tuple[Slot, ...]:
        store = Store(self.state)
        try:
            return store.slots()
        finally:
            store.close()

    def phase(self, slot: str) -> str:
        row = self.slot(slot)
        return str(row.phase) if row else ""

    def reaches(self, slot: str, phase: str, *, within_s: float = 60.0) -> Slot:
        """The slot's row once it is in this phase; fails at once where the way ended elsewhere."""

        def look() -> bool:
            now = self.phase(slot)
            assert now == phase or now not in _ENDED, f"{slot} is {now}: {self.slot(slot)}\n{self.said()}"
            return now == phase

        self.until(look, f"{slot} is {phase}", within_s=within_s)
        row = self.slot(slot)
        assert row is not None
        return row

    def score(self, slot: str, body: bytes, content_type: str = "application/json") -> Scored:
        connection = http.client.HTTPConnection(_LOOPBACK, self.port, timeout=30)
        try:
            connection.request("POST", f"/{slot}/score", body, {"Content-Type": content_type})
            response = connection.getresponse()
            return Scored(response.status, response.headers, response.read())
        finally:
            connection.close()

    @contextmanager
    def containers(self) -> Iterator[list[Any]]:
        """Its containers, as the engine's own client sees them."""
        client = docker.DockerClient(base_url=f"unix://{self.engine}", timeout=60)
        try:
            label = {"label": f"edgefleet.device={self.name}"}
            yield client.containers.list(all=True, filters=label, ignore_removed=True)
        finally:
            client.close()

    def processes(self) -> dict[int, str]:
        """The digests of all modules that run as processes out of its state folder, by number, whoever started them."""
        found = {}
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = process.read_bytes().split(b"\0")
            except OSError:
                continue
            if not {b"modules.scoring", b"--module"} <= set(words):
                continue
            place = Path(words[words.index(b"--module") + 1].decode())
            if place.is_relative_to(self.state):
                found[int(process.parent.name)] = f"sha256:{place.name}"
        return found

    def said(self) -> str:
        slots = self.command("status", "--json") if (self.state / "agent.db").exists() else "no memory"
        return f"{self.agent.said()}\n{self.gateway.said()}\n{slots}"

    def close(self) -> None:
        """Stop both, and every container, which outlives them by design."""
        with ExitStack() as each:
            each.callback(self._remove_containers)
            each.callback(self.agent.stop)
            each.callback(self.gateway.stop)

    def _remove_containers(self) -> None:
        with self.containers() as containers:
            for container in containers:
                container.remove(force=True)
