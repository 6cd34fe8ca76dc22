"""The whole fleet side for real: broker with mTLS, server, signing keys, scoring image, and the operator's CLI."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fleet.client.api import Fleet
from fleet.client.config import Config
from fleet.client.workspace import Workspace
from fleet.folder import Folder
from tests.parts.fleet_server import FleetServer, fleet_server, initialise
from tests.parts.left_running import owner, started_for
from tests.parts.mosquitto import broker, free_port
from tests.parts.packed import pack
from tests.parts.programs import run, until
from tests.parts.wiretap import Wiretap

TEAM = "acme"
ENDED = ("done", "failed", "cancelled")


class System:
    """One fleet, on loopback; broker and server can be taken away and come back where they were.

    ``settings`` are the server's, besides those that every test's server has; ``program`` is what is run as it, and
    ``names`` are what its certificate is for beside loopback.
    """

    def __init__(self, folder: Path, *, program: str = "fleet", names: Sequence[str] = (), **settings: str) -> None:
        self.folder, self._program, self._settings = folder, program, settings
        self.data = initialise(folder / "fleet", names=names)
        self._device_port, self._service_port, self._server_port = free_port(), free_port(), free_port()
        self.blob_port = free_port()
        self._broker_up, self._server_up = ExitStack(), ExitStack()
        self._owner = owner()
        self.start_broker()
        self.start_server()

    # What can fail

    def start_broker(self) -> None:
        running = broker(
            self.folder / "broker", self.data, device_port=self._device_port, service_port=self._service_port
        )
        with started_for(self._owner):
            self.broker = self._broker_up.enter_context(running)

    def kill_broker(self) -> None:
        self.broker.process.kill()
        self._broker_up.close()

    def start_server(self) -> None:
        ports = {"port": str(self._server_port), "blob_port": str(self.blob_port)}
        running = fleet_server(self.data, self.broker, program=self._program, **ports, **self._settings)
        with started_for(self._owner):
            self.server: FleetServer = self._server_up.enter_context(running)

    def stop_server(self) -> None:
        self._server_up.close()

    def kill_server(self) -> None:
        self.server.process.kill()
        self.stop_server()

    def close(self) -> None:
        with self._broker_up:
            self.stop_server()

    # What people do

    @property
    def home(self) -> dict[str, str]:
        return {"EDGEFLEET_HOME": str(self.folder / "client")}

    def cli(self, *arguments: str | Path) -> Any:
        """``edgefleet ARGUMENTS --json`` as a process.

        Raises:
            CommandFailed: it exited with an error.
        """
        return json.loads(run("fleet.client", *arguments, "--json", environment=self.home))

    def found(self, image: str) -> None:
        """Log in, make the keys, bring the scoring image into the workspace."""
        self.cli("login", self.server.url, "--token", self.server.token, "--ca", self.data.ca)
        self.cli("keys", "init", self.folder / "keys", "--team", TEAM, "--insecure-demo-keys")
        pack(self.folder / "client" / "workspace", image)

    def register(self, model: Path, name: str, *more: str | Path, probation: str = "1s") -> str:
        """Register a model, without its signature; returns its name with the version."""
        command = ("models", "register", model, "--name", name, "--team", TEAM, "--probation", probation, *more)
        return str(self.cli(*command)["ref"])

    def sign(self, ref: str) -> str:
        self.cli("modules", "sign", ref, "--keys", self.folder / "keys")
        return ref

    def start_rollout(self, ref: str, *devices: str, slot: str, more: tuple[str, ...] = ()) -> str:
        """Start it, whatever else fills this slot; returns its number."""
        chosen = [part for name in devices for part in ("--device", name)]
        return str(self.cli("rollouts", "start", ref, "--slot", slot, *chosen, "--supersede", *more)["id"])

    def ended(self, rollout: str, *, within_s: float = 60.0, said: Any = str) -> dict[str, Any]:
        """The rollout as the CLI shows it once it is over."""
        until(
            lambda: self.api(f"rollouts/{rollout}")["state"] in ENDED,
            f"rollout {rollout} ends",
            within_s=within_s,
            said=lambda: f"{json.dumps(self.api(f'rollouts/{rollout}'), indent=1)}\n{said()}",
        )
        found: dict[str, Any] = self.cli("rollouts", "show", rollout)
        return found

    # What tests look at

    def api(self, path: str) -> Any:
        """A document of the server's, without the cost of a command."""
        with self.server.client() as http:
            return http.get(f"/api/v1/{path}").raise_for_status().json()

    def report(self, device: str) -> dict[str, Any]:
        """What the server knows that a device said last; empty where it has said nothing."""
        return self.api(f"devices/{device}")["report"] or {}

    def wiretap(self, device: str) -> Wiretap:
        return Wiretap(self.data, self.broker, device)

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "client" / "workspace")

    @contextmanager
    def fleet(self) -> Iterator[Fleet]:
        """The client's library, for what no command does: a publisher who signs something wrong."""
        with Fleet(Config(url=self.server.url, token=self.server.token, ca=self.data.ca.read_text())) as fleet:
            yield fleet


def blob_path(data: Folder, digest: str) -> Path:
    """Where the server keeps a blob."""
    hexadecimal = digest.removeprefix("sha256:")
    return data.blobs / "sha256" / hexadecimal[:2] / hexadecimal[2:]
