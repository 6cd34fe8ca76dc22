"""The ReplicaSet controller: as many pods as are wanted, and what became of them."""

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.kubernetes.refusals import Refused
from tests.doubles.kubernetes.world import MANAGER, Thing, World, active, condition, pod_from, ready, with_condition

_COMPONENT = "replicaset-controller"


def step(world: World) -> None:
    for found in world.store.all(kinds.REPLICA_SET):
        if found["metadata"].get("deletionTimestamp") is None:
            _step(world, found)


def available(world: World, pod: Thing, least: int) -> bool:
    """Ready for at least so many seconds."""
    found = condition(pod["status"].get("conditions", ()), "Ready")
    if found is None or found["status"] != "True":
        return False
    return world.store.since(found["lastTransitionTime"]) >= least


def _step(world: World, found: Thing) -> None:
    wanted = found["spec"]["replicas"]
    pods = [one for one in world.owned(kinds.POD, found) if active(one)]
    failure = ""
    for _ in range(wanted - len(pods)):
        body = pod_from(found["spec"]["template"], found, generate=f"{found['metadata']['name']}-")
        try:
            pod = world.api.create(kinds.POD, found["metadata"]["namespace"], body, Writer(MANAGER))
        except Refused as refused:
            failure = str(refused)
            world.event(found, "FailedCreate", f"Error creating: {failure}", _COMPONENT, warns=True)
            break
        pods.append(pod)
        world.event(found, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", _COMPONENT)
    for pod in sorted(pods, key=_worth)[: max(0, len(pods) - wanted)]:
        world.api.delete(kinds.POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
        pods.remove(pod)
        world.event(found, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}", _COMPONENT)
    _report(world, found, pods, failure)


def _worth(pod: Thing) -> tuple[bool, bool, bool, str]:
    """Who goes first: what has no node, does not run, is not ready; then the youngest."""
    status = pod["status"]
    age = pod["metadata"]["creationTimestamp"]
    return (
        bool(pod["spec"].get("nodeName")),
        status.get("phase") == "Running",
        ready(pod),
        "".join(chr(0x10FFFF - ord(one)) for one in age),
    )


def _report(world: World, found: Thing, pods: list[Thing], failure: str) -> None:
    least = found["spec"].get("minReadySeconds", 0)
    status = {
        "replicas": len(pods),
        "fullyLabeledReplicas": len(pods),
        "readyReplicas": sum(map(ready, pods)),
        "availableReplicas": sum(available(world, pod, least) for pod in pods),
        "observedGeneration": found["metadata"]["generation"],
    }
    if failure:
        new = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure}
        status["conditions"] = with_condition(found["status"].get("conditions", []), new, world.store.time())
    world.status(kinds.REPLICA_SET, found, status)
