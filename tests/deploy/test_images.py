"""The images of the fleet server and of the agent, built and started as they are shipped."""

import http.client
import json
import os
import secrets
import time
from contextlib import ExitStack, closing

import docker.errors
import httpx
import pytest

from fleet.folder import Folder
from tests.parts import docker as parts
from tests.parts.fleet_server import trusting
from tests.parts.mosquitto import HOST, broker, free_port
from tests.parts.postgres import postgres
from tests.parts.programs import until

# A build takes a minute, and the base another where it has to be made.
pytestmark = [pytest.mark.needs("docker", "mosquitto", "root"), pytest.mark.timeout(600)]
SERVER_USER, AGENT_USER, MODULE_USER = 10003, 10002, 10001
LOOK = """
import importlib.metadata, json, os, pathlib, shutil, sysconfig
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(),
    "packages": sorted(one.name.lower() for one in importlib.metadata.distributions()),
    "wheels": [str(path) for path in pathlib.Path("/").glob("*/*.whl")],
    "tools": [name for name in ("gcc", "cc", "make", "git") if shutil.which(name)],
    "templates": sorted(os.listdir(sysconfig.get_path("data") + "/share/edgefleet/deploy/broker")),
}))
"""


@pytest.fixture(scope="module")
def engine():
    with parts.engine(), closing(parts.client()) as client:
        yield client


class Contained:
    """Programs of one image on the host's network, confined as the docs say; removed at the end."""

    def __init__(self, engine, image, folder, user):
        self.engine, self.image, self.folder, self.user = engine, image, folder, user
        self.stack = ExitStack()
        folder.mkdir()
        os.chown(folder, user, user)
        folder.chmod(0o700)
        self.confined = {
            "network_mode": "host",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "tmpfs": {"/tmp": ""},
            "volumes": {str(folder): {"bind": "/data", "mode": "rw"}},
        }

    def once(self, *command, **environment):
        """What a command says that ends by itself."""
        return self.engine.containers.run(
            self.image, list(command), environment=environment, remove=True, stderr=True, **self.confined
        ).decode()

    def start(self, *command, **environment):
        """A container that goes on; it is looked at every second, so that no test waits for the image's half minute."""
        often = {"interval": 10**9, "timeout": 5 * 10**9, "start_period": 30 * 10**9}
        test = self.engine.images.get(self.image).attrs["Config"]["Healthcheck"]["Test"]
        made = self.engine.containers.run(
            self.image,
            list(command) or None,
            name=f"edgefleet-test-{secrets.token_hex(4)}",
            environment=environment,
            detach=True,
            healthcheck={"test": test} | often,
            **self.confined,
        )
        self.stack.callback(made.remove, force=True, v=True)
        return made


@pytest.fixture
def server(engine, tmp_path):
    contained = Contained(engine, parts.server_image(engine), tmp_path / "data", SERVER_USER)
    with contained.stack:
        yield contained


def health(container):
    container.reload()
    return container.attrs["State"]["Health"]["Status"]


def serves(server, folder, **environment):
    """Make a fleet, start broker and server, and see that the server is healthy, leads and has the broker."""
    said = server.once("init", "--once", "--password-file", "/data/password", **environment)
    assert (folder / "fleet/operator-token").read_text().strip() not in said
    data = Folder(folder / "fleet")
    with broker(folder.parent / "broker", data) as running:
        port = free_port()
        given = environment | {
            "EDGEFLEET_FLEET_HOST": HOST,
            "EDGEFLEET_FLEET_PORT": str(port),
            "EDGEFLEET_FLEET_BROKER_HOST": running.host,
            "EDGEFLEET_FLEET_BROKER_PORT": str(running.device_port),
            "EDGEFLEET_FLEET_BROKER_SERVICE_PORT": str(running.service_port),
        }
        container = server.start(**given)
        until(lambda: health(container) == "healthy", "it is healthy", within_s=60, said=container.logs)
        with httpx.Client(
            base_url=f"https://localhost:{port}",
            verify=trusting(data.ca),
            headers={"Authorization": f"Bearer {data.operator_token.read_text().strip()}"},
            trust_env=False,
        ) as client:
            until(
                lambda: client.get("/healthz").json()["broker"] == "connected",
                "the server has the broker",
                within_s=60,
                said=container.logs,
            )
            assert client.get("/healthz").json()["leader"] is True
            assert client.get("/api/v1/devices").status_code == http.client.OK
        began = time.monotonic()
        container.stop(timeout=60)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0
        assert time.monotonic() - began < 30


@pytest.mark.long
def test_the_server_starts_with_sqlite(server, tmp_path):
    """From an empty volume: init, serve, healthy, and a clean end at SIGTERM; all with a read-only root and no
    capability."""
    serves(server, tmp_path / "data")
    assert (tmp_path / "data/fleet/fleet.sqlite").exists()


@pytest.mark.needs("postgres")
@pytest.mark.long
def test_the_server_starts_with_postgresql_named_in_a_file(server, tmp_path):
    """The database's address, which has a password in it, is in no variable and no command line."""
    with postgres() as cluster:
        (tmp_path / "data/secrets").mkdir(mode=0o700)
        (tmp_path / "data/secrets/edgefleet_fleet_database").write_text(cluster.new())
        for path in (tmp_path / "data/secrets", tmp_path / "data/secrets/edgefleet_fleet_database"):
            os.chown(path, SERVER_USER, SERVER_USER)
        serves(server, tmp_path / "data", EDGEFLEET_FLEET_SECRETS_DIR="/data/secrets")
    assert not (tmp_path / "data/fleet/fleet.sqlite").exists()


def test_the_server_renders_the_brokers_configuration(server, tmp_path):
    """The image has the templates, and what it renders is the server user's own."""
    server.once("init", "--once", "--password-file", "/data/password")
    assert "mosquitto -c /data/broker/mosquitto.conf" in server.once("broker-config", "/data/broker")
    assert (tmp_path / "data/broker/broker.key").stat().st_uid == SERVER_USER


def test_the_server_has_an_ssh_for_its_targets(server):
    """As the unprivileged user, with its keys and known hosts where the data is."""
    said = server.engine.containers.run(
        server.image, ["-G", "engine"], entrypoint="ssh", remove=True, **server.confined
    ).decode()
    assert "identityfile /data/ssh/id_ed25519" in said
    assert "userknownhostsfile /data/ssh/known_hosts" in said


def test_a_server_that_does_not_answer_is_unhealthy(server):
    """The image's own check fails where nobody listens."""
    check = server.engine.images.get(server.image).attrs["Config"]["Healthcheck"]["Test"]
    with pytest.raises(docker.errors.ContainerError) as failed:
        server.engine.containers.run(
            server.image,
            check[1:],
            entrypoint=[],
            remove=True,
            environment={"EDGEFLEET_FLEET_PORT": str(free_port())},
            **server.confined,
        )
    assert (check[0], failed.value.exit_status) == ("CMD", 1)


@pytest.mark.parametrize(
    ("made", "user", "there", "absent"),
    [
        (parts.server_image, SERVER_USER, {"fastapi", "psycopg", "sqlalchemy"}, {"numpy", "onnx", "typer", "pytest"}),
        (parts.agent_image, AGENT_USER, {"aiomqtt", "aiohttp", "tuf"}, {"fastapi", "docker", "numpy", "pydantic"}),
    ],
    ids=["server", "agent"],
)
def test_what_is_in_it(engine, made, user, there, absent):
    """What the program imports and nothing else, no build tools, and a user that is neither root nor a module's."""
    image = made(engine)
    seen = json.loads(
        engine.containers.run(image, ["-c", LOOK], entrypoint=["python"], remove=True, network_mode="none")
    )
    assert (seen["uid"], seen["gid"]) == (user, user)
    assert user not in {0, MODULE_USER}
    assert there | {"edgefleet"} <= set(seen["packages"])
    assert not absent & set(seen["packages"])
    assert (seen["wheels"], seen["tools"]) == ([], [])
    assert "mosquitto.conf" in seen["templates"]
    config = engine.images.get(image).attrs["Config"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Volumes"] is None
