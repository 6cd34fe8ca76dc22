"""The chart's pods, started in Docker with what they say of themselves: no cluster is at hand, but their commands are.

Each container gets the command, the variables, the user, the confinement and the mounts of its pod; a Service is a name
on a network; the volume belongs to the pods' group, as a cluster makes it.
"""

import os
import secrets
import socket
import ssl
from contextlib import ExitStack, closing

import httpx
import pytest

from tests.deploy.test_chart import LEAST, NAMESPACE, of_kind, pods, rendered
from tests.parts import docker as parts
from tests.parts.fleet_server import trusting
from tests.parts.pace import stretched
from tests.parts.programs import until

pytestmark = [pytest.mark.long, pytest.mark.needs("docker", "mmdebstrap", "root"), pytest.mark.timeout(900)]


class Node:
    """Docker in the place of a node: its network, and one volume."""

    def __init__(self, engine, objects, volume, stack):
        self.engine, self.objects, self.volume, self.stack = engine, objects, volume, stack
        self.network = engine.networks.create(f"edgefleet-test-{secrets.token_hex(4)}")
        stack.callback(self.network.remove)

    def start(self, pod, one):
        """One container of a pod, as its template has it."""
        spec, confined = pod["spec"], one["securityContext"]
        kinds = {volume["name"]: volume for volume in spec["volumes"]}
        binds, tmpfs = {}, {}
        for mount in one["volumeMounts"]:
            if "emptyDir" in kinds[mount["name"]]:
                tmpfs[mount["mountPath"]] = "mode=1777"
                continue
            source = self.volume / mount.get("subPath", "")
            binds[str(source)] = {"bind": mount["mountPath"], "mode": "ro" if mount.get("readOnly") else "rw"}
        user = spec["securityContext"]
        made = self.engine.containers.create(
            one["image"],
            one.get("args"),
            entrypoint=one.get("command"),
            environment={entry["name"]: entry["value"] for entry in one.get("env", [])},
            user=f"{user['runAsUser']}:{user['runAsGroup']}",
            read_only=confined["readOnlyRootFilesystem"],
            cap_drop=confined["capabilities"]["drop"],
            security_opt=["no-new-privileges"],
            tmpfs=tmpfs,
            volumes=binds,
        )
        self.stack.callback(made.remove, force=True)
        self.network.connect(made, aliases=self.services(pod))
        made.start()
        return made

    def services(self, pod):
        labels = pod["metadata"]["labels"].items()
        return [
            one["metadata"]["name"]
            for one in of_kind(self.objects, "Service")
            if one["spec"]["selector"].items() <= labels
        ]

    def address(self, container):
        container.reload()
        return container.attrs["NetworkSettings"]["Networks"][self.network.name]["IPAddress"]


@pytest.fixture
def node(tmp_path):
    with ExitStack() as stack:
        stack.enter_context(parts.engine())
        engine = stack.enter_context(closing(parts.client()))
        images = {
            "server": engine.images.get(parts.server_image(engine)).tags[0],
            "broker": parts.mosquitto_image(engine),
        }
        volume = tmp_path / "volume"
        volume.mkdir()
        objects = rendered(LEAST | {"images": images}, tmp_path)
        group = pods(objects)["fleet-edgefleet-server"]["spec"]["securityContext"]["fsGroup"]
        os.chown(volume, 0, group)
        volume.chmod(0o2775)
        yield Node(engine, objects, volume, stack)


def test_the_pods_find_each_other_and_the_server_is_ready(node):
    """The first run makes the fleet while the others wait; then the server has the broker, under the names that the
    chart gives both of them, and is ready by its own probe."""
    templates = pods(node.objects)
    waiting = [
        node.start(templates[name], templates[name]["spec"]["initContainers"][0])
        for name in ("fleet-edgefleet-broker", "fleet-edgefleet-server")
    ]
    (job,) = of_kind(node.objects, "Job")
    first = node.start(job["spec"]["template"], job["spec"]["template"]["spec"]["containers"][0])
    assert first.wait(timeout=stretched(120))["StatusCode"] == 0, first.logs()
    for one in waiting:
        assert one.wait(timeout=stretched(30))["StatusCode"] == 0, one.logs()
    broker, server = (
        node.start(templates[name], templates[name]["spec"]["containers"][0])
        for name in ("fleet-edgefleet-broker", "fleet-edgefleet-server")
    )
    probe = templates["fleet-edgefleet-server"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]
    url = f"{probe['scheme'].lower()}://{node.address(server)}:8443{probe['path']}"

    def broker_of_server():
        try:
            return httpx.get(url, verify=False, trust_env=False).json()["broker"]
        except httpx.TransportError:
            return ""

    until(
        lambda: broker_of_server() == "connected",
        "the server has the broker",
        within_s=60,
        said=lambda: f"{server.logs().decode()}\n{broker.logs().decode()}",
    )
    certified = trusting(node.volume / "fleet/ca.pem")
    for name in ("fleet.example.org", f"fleet-edgefleet-server.{NAMESPACE}.svc"):
        with socket.create_connection((node.address(server), 8443), 10) as raw:
            certified.wrap_socket(raw, server_hostname=name).close()
    with (
        socket.create_connection((node.address(server), 8443), 10) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        certified.wrap_socket(raw, server_hostname="other.example.org")
    server.stop(timeout=45)
    server.reload()
    assert server.attrs["State"]["ExitCode"] == 0
    broker.stop(timeout=30)
    broker.reload()
    assert broker.attrs["State"]["ExitCode"] == 0
