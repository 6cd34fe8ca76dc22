"""deploy/compose.yaml, as it is: from nothing to a device that has joined, and to nothing again."""

import json
import os
import secrets
import subprocess
import sys
from contextlib import closing

import httpx
import pytest
import yaml

from tests.deploy.test_images import health
from tests.house.tree import ROOT
from tests.parts import docker as parts
from tests.parts.fleet_server import trusting
from tests.parts.mosquitto import HOST, free_port
from tests.parts.pace import stretched
from tests.parts.presence import program
from tests.parts.programs import Program, run, until

DEPLOY = ROOT / "deploy"
FILES = {"sqlite": ["compose.yaml"], "postgres": ["compose.yaml", "compose.postgres.yaml"]}
SECRETS = ("PASSWORD", "TOKEN", "DATABASE", "SECRET")


@pytest.fixture(scope="module")
def engine():
    with parts.engine(), closing(parts.client()) as client:
        yield client


class Project:
    """One project of docker-compose, on free loopback ports."""

    def __init__(self, engine, files, **images):
        self.engine, self.name = engine, f"edgefleet-test-{secrets.token_hex(3)}"
        self.port, broker, blobs = free_port(), free_port(), free_port()
        self.given = {
            "EDGEFLEET_HOST": "localhost",
            "EDGEFLEET_ADDRESS": HOST,
            "EDGEFLEET_PORT": str(self.port),
            "EDGEFLEET_BROKER_PORT": str(broker),
            "EDGEFLEET_BLOB_PORT": str(blobs),
        } | {f"EDGEFLEET_{kind.upper()}_IMAGE": image for kind, image in images.items()}
        self.files = [word for file in files for word in ("-f", str(DEPLOY / file))]

    def compose(self, *words, check=True):
        command = [program("docker-compose"), "-p", self.name, *self.files, *words]
        done = subprocess.run(
            command, env=os.environ | self.given, capture_output=True, text=True, timeout=stretched(300), check=False
        )
        assert not check or done.returncode == 0, f"{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self):
        return self.compose("logs", "--no-color", check=False)

    def containers(self):
        found = self.engine.containers.list(all=True, filters={"label": f"com.docker.compose.project={self.name}"})
        return {one.labels["com.docker.compose.service"]: one for one in found}

    def up(self):
        self.compose("up", "-d")
        for service in ("broker", "server"):
            until(
                lambda service=service: health(self.containers()[service]) == "healthy",
                f"{service} is healthy",
                within_s=120,
                said=self.logs,
            )

    def read(self, path):
        return self.compose("exec", "-T", "server", "cat", path)

    def left(self):
        mine = {"label": f"com.docker.compose.project={self.name}"}
        kinds = (self.engine.containers.list(all=True, filters=mine), self.engine.volumes.list(filters=mine))
        return [one.name for kind in (*kinds, self.engine.networks.list(filters=mine)) for one in kind]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def project(request, engine):
    more = {"postgres": parts.postgres_image(engine)} if request.param == "postgres" else {}
    made = Project(
        engine, FILES[request.param], server=parts.server_image(engine), broker=parts.mosquitto_image(engine), **more
    )
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "60")


@pytest.mark.long
@pytest.mark.needs("docker", "docker-compose", "mmdebstrap")
@pytest.mark.timeout(900)
def test_from_nothing_to_a_device_and_to_nothing_again(project, tmp_path):
    """`up` makes the fleet, a device joins and is heard, one that is removed is refused by the broker without anybody's
    doing, `up` again changes nothing, and `down --volumes` leaves nothing. No secret is in a variable or a log."""
    project.up()
    ca = tmp_path / "ca.pem"
    ca.write_text(project.read("/data/fleet/ca.pem"))
    token, password = project.read("/data/fleet/operator-token").strip(), project.read("/data/first-password").strip()
    url = f"https://localhost:{project.port}"
    home = {"EDGEFLEET_HOME": str(tmp_path / "client")}
    run("fleet.client", "login", url, "--ca", ca, "--token", token, environment=home)
    run("fleet.client", "keys", "init", tmp_path / "keys", "--team", "acme", "--insecure-demo-keys", environment=home)
    run("fleet.client", "devices", "join", "--out", tmp_path / "join.json", environment=home)
    device = {
        "EDGEFLEET_AGENT_STATE": str(tmp_path / "state"),
        "EDGEFLEET_AGENT_RUNTIME": str(tmp_path / "run"),
        "EDGEFLEET_AGENT_DOCKER_SOCKET": "/nonexistent.sock",
    }
    (tmp_path / "state").mkdir()
    run("agent", "enroll", tmp_path / "join.json", "--name", "press-7", environment=device)
    agent = Program("agent", [sys.executable, "-m", "agent", "run"], tmp_path / "agent.log", environment=device)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, verify=trusting(ca), trust_env=False, timeout=30) as http:
        try:
            agent.start(ready=lambda: http.get("/api/v1/devices/press-7").json()["online"])
            told = json.loads(run("fleet.client", "devices", "remove", "press-7", "--json", environment=home))
            assert told["broker"] == "the broker refuses its certificate"
            until(lambda: "refuses" in run("agent", "status", environment=device), "it is refused", within_s=90,
                  said=agent.said)  # fmt: skip
        finally:
            agent.stop()
        project.up()
        assert project.read("/data/fleet/ca.pem") == ca.read_text()
        assert http.get("/api/v1/devices").status_code == httpx.codes.OK
    said = project.logs() + json.dumps([one.attrs for one in project.containers().values()])
    assert token not in said
    assert password not in said
    project.compose("down", "--volumes", "--timeout", "60")
    assert project.left() == []


def services():
    for file in FILES["postgres"]:
        yield from yaml.safe_load((DEPLOY / file).read_text())["services"].items()


@pytest.mark.parametrize(("name", "service"), [one for one in services() if "image" in one[1]])
def test_every_service_is_confined(name, service):
    """A read-only root, no capability, no new privileges, a bound of memory; no secret in a variable."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert service["restart"] in {"no", "unless-stopped"}
    assert not {"privileged", "cap_add", "pid", "ipc", "devices"} & service.keys()
    assert service.get("network_mode", "none") == "none"
    for variable in service.get("environment", {}):
        assert not any(word in variable for word in SECRETS) or variable.endswith(("_FILE", "_DIR")), variable
