"""The cluster that KUBECONFIG names, as the journeys see it: a plain one, which is somebody else's.

CONTRIBUTING.md says what they need of it. All that they make lies in namespaces of their own, but for one volume.
"""

import base64
import contextlib
import importlib
import json
import platform
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from tests.doubles.kubernetes import gateway_api
from tests.parts.programs import until

_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_KEEP_AWAY: Final = frozenset({"NoSchedule", "NoExecute"})
#: of a cluster that has no other nodes these are tolerated
_CONTROLS: Final = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
# On the way to this address, which nobody has, lies the network that leads everywhere.
_ANYWHERE: Final = "192.0.2.1"
_STARTS_S: Final = 180
_RAN: Final = "it ran"
_HOW: Final = "write it with python -m tests.parts.side_loaded FOLDER, and load it there as CONTRIBUTING.md says"


class Nodes(NamedTuple):
    """The nodes that the journeys' pods may run on; ``tolerated`` are the taints that have to be for that."""

    every: tuple[Any, ...]
    machine: str
    tolerated: tuple[str, ...]

    @property
    def address(self) -> str:
        """Where a NodePort is reached: the first node's own address."""
        given = [one.address for one in self.every[0].status.addresses if one.type == "InternalIP"]
        found = [str(one) for one in given if ":" not in one]
        assert found, f"node {self.every[0].metadata.name} has no internal address of IPv4: {given}"
        return found[0]


def nodes(api: Any) -> Nodes:
    """Those that are ready and run what this machine builds, without the taints that keep pods away."""
    machine = _MACHINES.get(platform.machine(), platform.machine())
    fit = [
        one
        for one in api.list_node().items
        if not one.spec.unschedulable
        and one.status.node_info.architecture == machine
        and any(said.type == "Ready" and said.status == "True" for said in one.status.conditions)
    ]
    taints = {one.metadata.name: _kept_away(one) for one in fit}
    free = tuple(one for one in fit if not taints[one.metadata.name])
    controls = tuple(one for one in fit if taints[one.metadata.name] <= set(_CONTROLS))
    chosen = free or controls
    assert chosen, f"no node of {machine} is ready and takes pods: {taints}"
    tolerated = set[str]().union(*(taints[one.metadata.name] for one in chosen))
    return Nodes(chosen, machine, tuple(sorted(tolerated)))


def _kept_away(node: Any) -> set[str]:
    return {one.key for one in node.spec.taints or () if one.effect in _KEEP_AWAY}


def own_address(api: Any, known: Nodes) -> str:
    """This machine's address as pods reach it: the one on the way to a node, to the API server, or to anywhere."""
    for there in (known.address, urlsplit(api.api_client.configuration.host).hostname or _ANYWHERE, _ANYWHERE):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((there, 9))
            found = str(probe.getsockname()[0])
            if not found.startswith("127."):
                return found
    raise AssertionError("this machine has no address that pods could reach")


@contextmanager
def namespace(api: Any, *, standard: str) -> Iterator[str]:
    """A namespace of its own, held to this pod security standard; gone at the end, with all that is in it."""
    name = f"edgefleet-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": standard}
    api.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        # Until it is there no pod is taken.
        until(lambda: api.list_namespaced_service_account(name).items, f"namespace {name} has an account", within_s=60)
        yield name
    finally:
        api.delete_namespace(name)


def kubeconfig(api: Any, token: str, file: Path) -> Path:
    """A kubeconfig for whoever has this token, whatever the one that KUBECONFIG names has for credentials."""
    known = api.api_client.configuration
    cluster = {"server": known.host}
    if known.ssl_ca_cert:
        cluster["certificate-authority-data"] = base64.b64encode(Path(known.ssl_ca_cert).read_bytes()).decode()
    if known.tls_server_name:
        cluster["tls-server-name"] = known.tls_server_name
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(document))
    return file


def check_images(api: Any, known: Nodes, space: str, images: Sequence[str]) -> None:
    """Whether each node has these images, seen by starting them there.

    Raises:
        AssertionError: one of them lacks one, or cannot start it; how to bring it there.
    """
    made = {}
    for node in known.every:
        containers = [
            {"name": f"it-{number}", "image": one, "imagePullPolicy": "Never", "command": ["python", "-c", ""]}
            for number, one in enumerate(images)
        ]
        pod = _pod(node.metadata.name, containers)
        made[api.create_namespaced_pod(space, pod).metadata.name] = node.metadata.name
    stood = dict[str, dict[str, str]]()

    def decided() -> bool:
        stood.update((node, _stands(api, space, pod, images)) for pod, node in made.items())
        return all(len(one) == len(images) and all(one.values()) for one in stood.values())

    until(decided, "each node says whether it has the images", within_s=_STARTS_S, said=lambda: str(stood))
    for node, found in stood.items():
        lacking = [f"{one} ({why})" for one, why in found.items() if why != _RAN]
        assert not lacking, f"node {node} lacks {', '.join(lacking)}: {_HOW}"


def _stands(api: Any, space: str, pod: str, images: Sequence[str]) -> dict[str, str]:
    """How the containers of these images stand; empty where that is not known yet."""
    said = api.read_namespaced_pod(pod, space).status.container_statuses or ()
    return {images[int(one.name.removeprefix("it-"))]: _said(one.state) for one in said}


def _said(state: Any) -> str:
    """How a container stands; empty: it is not known yet."""
    if state.terminated:
        return f"it ended with {state.terminated.exit_code}" if state.terminated.exit_code else _RAN
    waiting = state.waiting.reason if state.waiting else ""
    return waiting if waiting and waiting.startswith("Err") else ""


def _pod(node: str, containers: list[dict[str, Any]], volumes: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    spec = {
        "restartPolicy": "Never",
        "nodeName": node,
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
        "containers": containers,
        "volumes": list(volumes),
    }
    return {"metadata": {"generateName": "edgefleet-"}, "spec": spec}


class Disk:
    """A folder of one node's own disk as the claim ``share`` of a namespace, and what that node's root sees there.

    Programs run in the namespace ``beside``, in an image that the node has.
    """

    def __init__(self, api: Any, node: Any, space: str, beside: str, *, image: str) -> None:
        self._api, self._space, self._beside, self._image = api, space, beside, image
        self._node, self._name = node.metadata.name, f"edgefleet-{secrets.token_hex(4)}"
        host = {
            "key": "kubernetes.io/hostname",
            "operator": "In",
            "values": [node.metadata.labels["kubernetes.io/hostname"]],
        }
        common = {"storageClassName": "", "accessModes": ["ReadWriteMany"]}
        api.create_persistent_volume({
            "metadata": {"name": self._name},
            "spec": common | {
                "capacity": {"storage": "1Gi"}, "hostPath": {"path": f"/tmp/{self._name}"},
                "claimRef": {"namespace": space, "name": "share"}, "persistentVolumeReclaimPolicy": "Retain",
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            },
        })  # fmt: skip
        claim = common | {"volumeName": self._name, "resources": {"requests": {"storage": "1Gi"}}}
        api.create_namespaced_persistent_volume_claim(space, {"metadata": {"name": "share"}, "spec": claim})

    def run(self, program: str, *words: str) -> str:
        """What a program of Python prints there, as root; ``/host`` is the node's ``/tmp``."""
        container = {
            "name": "it", "image": self._image, "imagePullPolicy": "Never",
            "command": ["python", "-c", program, f"/host/{self._name}", *words], "securityContext": {"runAsUser": 0},
            "volumeMounts": [{"name": "host", "mountPath": "/host"}],
        }  # fmt: skip
        volume = {"name": "host", "hostPath": {"path": "/tmp"}}
        made = self._api.create_namespaced_pod(self._beside, _pod(self._node, [container], [volume]))
        name = made.metadata.name

        def phase() -> str:
            return str(self._api.read_namespaced_pod(name, self._beside).status.phase)

        until(lambda: phase() in {"Succeeded", "Failed"}, "a program on the node", within_s=_STARTS_S, said=phase)
        said, how = str(self._api.read_namespaced_pod_log(name, self._beside)), phase()
        self._api.delete_namespaced_pod(name, self._beside, _preload_content=False)
        assert how == "Succeeded", said
        return said

    def remove(self) -> None:
        self.run("import shutil, sys; shutil.rmtree(sys.argv[1], ignore_errors=True)")
        self._api.delete_namespaced_persistent_volume_claim("share", self._space, _preload_content=False)
        self._api.delete_persistent_volume(self._name, _preload_content=False)


@contextmanager
def routes(api: Any) -> Iterator[None]:
    """The Gateway API's HTTPRoute; where the cluster has none, the double's excerpt of it as long as this lasts."""
    definitions = importlib.import_module("kubernetes.client").ApiextensionsV1Api(api.api_client)
    name = "httproutes.gateway.networking.k8s.io"
    if name in {one.metadata.name for one in definitions.list_custom_resource_definition().items}:
        yield
        return
    group = name.partition(".")[2]
    names = {"plural": "httproutes", "singular": "httproute", "kind": "HTTPRoute", "listKind": "HTTPRouteList"}
    schema = structural(gateway_api.DEFINITIONS[gateway_api.ROUTE])
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
    version["schema"] = {"openAPIV3Schema": schema}
    # Groups of k8s.io ask who has approved of it.
    notes = {"api-approved.kubernetes.io": "unapproved, an excerpt for tests"}
    definitions.create_custom_resource_definition({
        "metadata": {"name": name, "annotations": notes},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    })  # fmt: skip

    def taken() -> bool:
        said = definitions.read_custom_resource_definition(name).status.conditions or ()
        return any(one.type == "Established" and one.status == "True" for one in said)

    try:
        until(taken, "the cluster knows HTTPRoute", within_s=60)
        yield
    finally:
        definitions.delete_custom_resource_definition(name, _preload_content=False)


def structural(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema as a CustomResourceDefinition takes it: metadata is the API server's, and objects are open or listed."""
    if "$ref" in schema:
        return {"type": "object"}
    found = {name: one for name, one in schema.items() if name != "additionalProperties"}
    if "properties" in found:
        found["properties"] = {name: structural(one) for name, one in found["properties"].items()}
    elif found.get("type") == "object":
        found["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in found:
        found["items"] = structural(found["items"])
    return found
