"""The steps of the demo: what a user would type, and the programs that would be services."""

import http.client
import json
import os
import secrets
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
from rich.console import Console

from deploy.demo import brokers, left
from deploy.demo.programs import HOST, Failed, Programs, free_port, python, run

T = TypeVar("T")

DIGITS: Final = Path(__file__).parents[2] / "modules/examples/digits"
IMAGE: Final = "edgefleet-demo-scoring:cpu"
TEAM: Final = "demo"
# A socket's path holds 107 bytes; this leaves room for the instance's own part.
_MAX_RUNTIME: Final = 80

console = Console(highlight=False, soft_wrap=True)


class Demo:
    """The steps, in order; each leaves what the next one needs."""

    def __init__(self, folder: Path, *, gateway_port: int) -> None:
        self.folder = folder
        self.data = folder / "fleet"
        self.state = folder / "device"
        self.password = folder / "password"
        self.runtime = folder / "run"
        if len(str(self.runtime)) > _MAX_RUNTIME:
            self.runtime = Path(tempfile.mkdtemp(prefix="edgefleet-demo-"))
        self.programs = Programs(folder, partial(left.record, folder))
        self.gateway_port = gateway_port or free_port()
        self.seconds: dict[str, float] = {}
        # Two demos on one engine must not stop each other's containers.
        self.device = f"demo-{secrets.token_hex(4)}"
        self.engine, self.why = "docker", ""
        self.url = ""

    def step(self, what: str, action: Callable[[], T]) -> T:
        """Take a step, show that it is on its way and how long it took.

        Raises:
            Failed: it did not work; the message names the step.
        """
        if console.is_terminal:
            console.print(f"  … {what}", end="\r")
        began = time.perf_counter()
        try:
            done = action()
        except Failed as error:
            raise Failed(f"step failed: {what}\n{error}") from error
        took = time.perf_counter() - began
        self.seconds[what] = round(took, 2)
        console.print(f"  [green]✓[/] {what:<58} {took:6.1f} s")
        return done

    def cli(self, *arguments: str, show: bool = False) -> Any:
        """``edgefleet ... --json`` with a configuration of its own."""
        environment = {"EDGEFLEET_HOME": str(self.folder / "client")}
        return json.loads(run(python("-m", "fleet.client", *arguments, "--json"), environment=environment, show=show))

    def agent_environment(self) -> dict[str, str]:
        return {
            "EDGEFLEET_AGENT_STATE": str(self.state),
            "EDGEFLEET_AGENT_RUNTIME": str(self.runtime),
            "EDGEFLEET_AGENT_GATEWAY_ADDRESS": f"{HOST}:{self.gateway_port}",
            "EDGEFLEET_AGENT_POLL_S": "2",
            "MALLOC_ARENA_MAX": "1",  # as its unit says
            "EDGEFLEET_AGENT_PROCESS_INTERPRETER": sys.executable if self.engine == "process" else "",
        }

    # The fleet

    def make_fleet(self) -> None:
        self.state.mkdir(parents=True)
        password = ["--password-file", str(self.password)]
        run(python("-m", "fleet", "init", "--data", str(self.data), "--name", HOST, *password))

    def start_server(self, broker: brokers.Broker) -> str:
        ready = self.folder / "fleet-ready"
        command = python(
            "-m", "fleet", "serve", "--insecure-demo-keys", "--data", str(self.data), "--host", HOST, "--port", "0"
        )
        command += ["--broker-host", HOST, "--broker-port", str(broker.device_port)]
        command += ["--broker-service-port", str(broker.service_port), "--ready-file", str(ready)]
        self.programs.start("fleet", command, ready=ready.exists)
        self.url = ready.read_text().strip()
        return self.url

    def choose_password(self) -> None:
        """The first password has to be changed before anything else: done here, so that what is printed lets in."""
        old, new = self.password.read_text().strip(), secrets.token_urlsafe(12)
        trusted = ssl.create_default_context(cafile=str(self.data / "ca.pem"))
        with httpx.Client(base_url=self.url, verify=trusted, trust_env=False, headers={"Origin": self.url}) as http:
            session = http.post("/api/v1/session", json={"user": "admin", "password": old})
            said = {"X-Edgefleet-Csrf": session.json().get("csrf", "")}
            changed = http.put("/api/v1/session/password", json={"old": old, "new": new}, headers=said)
        if not changed.is_success:
            raise Failed(f"the server did not take the password: {changed.text[:500]}")
        self.password.write_text(f"{new}\n")

    def make_keys(self, url: str) -> None:
        token = (self.data / "operator-token").read_text().strip()
        self.cli("login", url, "--token", token, "--ca", str(self.data / "ca.pem"))
        self.cli("keys", "init", str(self.folder / "keys"), "--team", TEAM, "--insecure-demo-keys")

    # The device

    def enroll(self) -> None:
        bundle = self.folder / "join.json"
        self.cli("devices", "join", "--out", str(bundle))
        run(python("-m", "agent", "enroll", str(bundle), "--name", self.device), environment=self.agent_environment())

    def start_device(self) -> int:
        """Start agent and gateway; returns the agent's process id."""
        table = self.runtime / "gateway" / "table.json"
        agent = self.programs.start(
            "agent", python("-m", "agent", "run"), ready=table.exists, environment=self.agent_environment()
        )
        ready = self.folder / "gateway-ready"
        command = python("-m", "agent.gateway", "--table", str(table), "--listen", f"{HOST}:{self.gateway_port}")
        self.programs.start("gateway", [*command, "--ready-file", str(ready)], ready=ready.exists)
        self.cli("devices", "show", self.device, "--wait")
        return agent

    # The model

    def make_image(self, *, choice: str) -> bool:
        """Build the scoring image; where that cannot be done, the process engine takes its place.

        Raises:
            Failed: Docker was asked for by name, and it cannot be done.
        """
        if choice == "process":
            self.engine, self.why = "process", "it was asked for"
            return False
        try:
            self.cli("images", "build", "--name", IMAGE)
        except Failed as error:
            if choice == "docker" or os.environ.get("EDGEFLEET_REQUIRE") == "all":
                raise
            self.engine, self.why = "process", str(error).splitlines()[-1]
            return False
        return True

    def register(self) -> str:
        command = ["models", "register", str(DIGITS / "digits.onnx"), "--name", "digits", "--team", TEAM]
        command += ["--description", "handwritten digits, 8 x 8 grey", "--probation", "1s", "--engine", self.engine]
        for number, sample in enumerate(digits()[:4]):
            path = self.folder / f"sample-{number}.json"
            path.write_text(json.dumps({"body": {"data": [sample["pixels"]]}}))
            command += ["--sample", str(path)]
        return str(self.cli(*command)["ref"])

    def sign(self, ref: str) -> None:
        self.cli("modules", "sign", ref, "--keys", str(self.folder / "keys"))

    def roll_out(self, ref: str) -> dict[str, Any]:
        command = ["rollouts", "start", ref, "--slot", "digits", "--device", self.device, "--engine", self.engine]
        found: dict[str, Any] = self.cli(*command, "--wait")
        return found

    def score(self, pixels: list[float]) -> tuple[dict[str, Any], http.client.HTTPMessage, float]:
        connection = http.client.HTTPConnection(HOST, self.gateway_port, timeout=30)
        began = time.perf_counter()
        body = json.dumps({"data": [pixels]})
        connection.request("POST", "/digits/score", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        took = time.perf_counter() - began
        connection.close()
        if response.status != http.client.OK:
            raise Failed(f"the gateway answered {response.status}: {answer[:500]!r}")
        return json.loads(answer), response.headers, took

    def stop(self) -> None:
        """End every program, and the modules, which would outlive the agent."""
        self.programs.stop()
        if (self.state / "identity" / "device.json").exists():
            run(python("-m", "agent", "halt"), environment=self.agent_environment())
        if self.runtime.parent != self.folder:
            shutil.rmtree(self.runtime, ignore_errors=True)


def digits() -> list[dict[str, Any]]:
    """Real images that the model was not trained on: ``pixels``, and the ``digit`` that they show."""
    found: list[dict[str, Any]] = json.loads((DIGITS / "digit.json").read_text())
    return found
