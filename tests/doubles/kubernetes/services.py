"""Endpoints and EndpointSlices of Services: the addresses of ready pods; load balancers stay pending."""

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.kubernetes.world import MANAGER, Thing, World, owner_reference, ready


def step(world: World) -> None:
    for service in world.store.all(kinds.SERVICE):
        if service["spec"].get("selector") and service["spec"]["type"] != "ExternalName":
            _step(world, service)


def _step(world: World, service: Thing) -> None:
    metadata, selector = service["metadata"], service["spec"]["selector"]
    pods = [
        pod
        for pod in world.store.all(kinds.POD, metadata["namespace"])
        if selector.items() <= pod["metadata"].get("labels", {}).items()
        and pod["status"].get("podIP")
        and pod["status"]["phase"] in {"Pending", "Running"}
    ]
    common = {"name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata.get("labels", {})}
    serving = [pod for pod in pods if ready(pod) and "deletionTimestamp" not in pod["metadata"]]
    waiting = [pod for pod in pods if pod not in serving and "deletionTimestamp" not in pod["metadata"]]
    ports = _ports(service, pods)
    subset = {
        **({"addresses": [_address(pod) for pod in serving]} if serving else {}),
        **({"notReadyAddresses": [_address(pod) for pod in waiting]} if waiting else {}),
        "ports": ports,
    }
    _write(world, kinds.ENDPOINTS, {"metadata": common, **({"subsets": [subset]} if serving or waiting else {})})
    endpoints = [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {
                "ready": pod in serving,
                "serving": ready(pod),
                "terminating": "deletionTimestamp" in pod["metadata"],
            },
            "nodeName": pod["spec"]["nodeName"],
            "targetRef": _reference(pod),
        }
        for pod in pods
    ]
    labels = metadata.get("labels", {}) | {
        "kubernetes.io/service-name": metadata["name"],
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    name = f"{metadata['name']}-{metadata['uid'][:5]}"
    owned = {"ownerReferences": [owner_reference(service)], "name": name, "labels": labels}
    body = {"metadata": common | owned, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}
    _write(world, kinds.ENDPOINT_SLICE, body)


def _ports(service: Thing, pods: list[Thing]) -> list[Thing]:
    found = []
    for port in service["spec"].get("ports", ()):
        target = port["targetPort"]
        if isinstance(target, str):  # a name is looked up in the pods
            named = [
                one["containerPort"]
                for pod in pods
                for container in pod["spec"]["containers"]
                for one in container.get("ports", ())
                if one.get("name") == target and one["protocol"] == port["protocol"]
            ]
            if not named:
                continue
            target = named[0]
        entry = {"port": target, "protocol": port["protocol"]}
        found.append(entry | ({"name": port["name"]} if port.get("name") else {}))
    return found


def _reference(pod: Thing) -> Thing:
    metadata = pod["metadata"]
    return {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}


def _address(pod: Thing) -> Thing:
    return {"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"], "targetRef": _reference(pod)}


def _write(world: World, kind: Kind, body: Thing) -> None:
    """What it has written already, and nobody has touched since, it does not write again."""
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    body = {"apiVersion": kind.api_version, "kind": kind.name} | copied(body)
    known, key = world.store.get(kind, namespace, name), (kind, namespace, name)
    if known is None:
        kept = world.api.create(kind, namespace, body, Writer(MANAGER))
    elif world.written.get(key) == (body, known["metadata"]["resourceVersion"]):
        return
    else:
        kept = world.write(kind, copied(body))
    world.written[key] = body, kept["metadata"]["resourceVersion"]
