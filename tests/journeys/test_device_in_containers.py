"""A device on which agent and gateway are containers, with the rights that deploy/agent/README.md gives them."""

import os
import secrets
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.mosquitto import free_port
from tests.parts.on_device import OnDevice
from tests.parts.presence import engine_socket

pytestmark = [pytest.mark.long, pytest.mark.needs("root"), pytest.mark.timeout(600)]
SLOT = "digits"
AGENT_USER, GATEWAY_USER = 10002, 10004


class InContainers(OnDevice):
    """A device whose programs are containers of the agent's image; the rest is as on any other."""

    def __init__(self, system, name, engine, image):
        super().__init__(system, name)
        self.client, self.image, self.stack = engine, image, ExitStack()
        self.runtime.mkdir()
        for folder in (self.state, self.runtime):
            os.chown(folder, AGENT_USER, AGENT_USER)
            folder.chmod(0o750)
        self.address = f"127.0.0.1:{free_port()}"
        self.environment["EDGEFLEET_AGENT_GATEWAY_ADDRESS"] = self.address
        self.port = int(self.address.rpartition(":")[2])

    def container(self, *command, mounts, **more):
        made = self.client.containers.run(
            self.image,
            list(command) or None,
            name=f"edgefleet-test-{secrets.token_hex(4)}",
            detach=True,
            network_mode="host",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs={"/tmp": ""},
            environment=self.environment,
            # The engine looks for them on the host: they have to have the same path inside.
            volumes={str(path): {"bind": str(path), "mode": mode} for path, mode in mounts.items()},
            **more,
        )
        self.stack.callback(made.remove, force=True)
        return made

    def enroll(self, *, through=0):
        bundle = self.folder / "join.json"
        self.system.cli("devices", "join", "--out", bundle)
        os.chown(bundle, AGENT_USER, AGENT_USER)
        made = self.container(
            "enroll", str(bundle), "--name", self.name, mounts={self.state: "rw", self.runtime: "rw", bundle: "ro"}
        )
        assert made.wait()["StatusCode"] == 0, made.logs()

    def start(self):
        socket = engine_socket()
        self.agent_container = self.container(
            mounts={self.state: "rw", self.runtime: "rw", socket: "rw"}, group_add=[Path(socket).stat().st_gid]
        )
        table = self.runtime / "gateway/table.json"
        self.until(table.exists, "the agent has written its table")
        self.container(
            "--table", str(table),
            mounts={self.runtime: "ro"},
            entrypoint=["edgefleet-gateway"],
            user=f"{GATEWAY_USER}:{AGENT_USER}",
            healthcheck={"test": ["NONE"]},
        )  # fmt: skip
        self.until(lambda: self.system.api(f"devices/{self.name}")["facts"], "the server has its facts")

    def said(self):
        return self.agent_container.logs().decode()

    def close(self):
        with self.stack:
            self.agent_container.stop(timeout=30)
            self._remove_containers()


@pytest.fixture
def contained(system):
    with docker_parts.engine(), closing(docker_parts.client()) as engine:
        made = InContainers(system, f"dev-box-{secrets.token_hex(3)}", engine, docker_parts.agent_image(engine))
        made.enroll()
        made.start()
        with closing(made):
            yield made


def test_a_module_comes_to_a_device_of_containers(system, contained, digits_module):
    """Enrolled, ordered, proved and committed; the gateway's container answers rightly, and the agent's is healthy.

    The module's user does not own the folder of its socket, and an agent that is started anew goes on with what runs.
    """
    rollout = system.ended(system.start_rollout(digits_module, contained.name, slot=SLOT), said=contained.said)
    assert rollout["state"] == "done"
    question = digits.QUESTIONS[0]
    assert question.wrong(contained.score(SLOT, question.body).body) == ""
    owners = {path.parent.stat().st_uid for path in contained.runtime.glob("i/*/s.sock")}
    assert owners == {AGENT_USER}
    with contained.containers() as before:
        contained.agent_container.restart(timeout=30)
        contained.until(
            lambda: contained.agent_container.exec_run(["edgefleet-agent", "status"]).exit_code == 0, "it is well again"
        )
        assert question.wrong(contained.score(SLOT, question.body).body) == ""
        with contained.containers() as after:
            assert [one.id for one in after] == [one.id for one in before]
