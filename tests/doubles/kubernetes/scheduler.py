"""The scheduler: a node for each pod by what is requested, or the sentence that says what is lacking."""

from collections import Counter
from decimal import Decimal

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.quantities import amount
from tests.doubles.kubernetes.world import Thing, World, active, condition, with_condition

_COMPONENT = "default-scheduler"


def step(world: World) -> None:
    nodes = world.store.all(kinds.NODE)
    for pod in world.store.all(kinds.POD):
        if not pod["spec"].get("nodeName") and active(pod) and not pod["spec"].get("schedulingGates"):
            _place(world, pod, nodes)


def requests(pod: Thing) -> Counter[str]:
    """What a pod needs: all its containers together, or its largest init container."""
    total: Counter[str] = Counter(pods=Decimal(1))
    for container in pod["spec"]["containers"]:
        for name, value in container.get("resources", {}).get("requests", {}).items():
            total[name] += amount(value)
    for container in pod["spec"].get("initContainers", ()):
        for name, value in container.get("resources", {}).get("requests", {}).items():
            total[name] = max(total[name], amount(value))
    return total


def _place(world: World, pod: Thing, nodes: list[Thing]) -> None:
    problems: Counter[str] = Counter()
    without = _without_volumes(world, pod)
    taken = Counter(other["spec"].get("nodeName") for other in world.store.all(kinds.POD))
    for node in sorted(nodes, key=lambda one: taken[one["metadata"]["name"]]):
        found = [] if without else _problems(world, pod, node)
        if not found and not without:
            _bind(world, pod, node["metadata"]["name"])
            return
        problems.update(found)
    listed = without or ", ".join(f"{count} {problem}" for problem, count in sorted(problems.items()))
    count = len(nodes)
    message = f"0/{count} nodes are available: {listed}."
    if count:
        message += f" preemption: 0/{count} nodes are available: {count} No preemption victims found for incoming pod."
    else:
        message = "no nodes available to schedule pods"
    new = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    known = condition(pod["status"].get("conditions", ()), "PodScheduled")
    status = pod["status"] | {
        "phase": "Pending",
        "conditions": with_condition(pod["status"].get("conditions", []), new, world.store.time()),
    }
    if known is None or known.get("message") != message:
        world.event(pod, "FailedScheduling", message, _COMPONENT, warns=True)
    world.status(kinds.POD, pod, status, "kube-scheduler")


def _without_volumes(world: World, pod: Thing) -> str:
    """What is wrong with the claims that it names; nothing where they are bound."""
    for volume in pod["spec"].get("volumes", ()):
        name = volume.get("persistentVolumeClaim", {}).get("claimName", "")
        claim = (
            world.store.get(kinds.CLAIM, pod["metadata"]["namespace"], name) if name else {"spec": {"volumeName": 1}}
        )
        if claim is None:
            return f'persistentvolumeclaim "{name}" not found'
        if not claim["spec"].get("volumeName"):
            return "pod has unbound immediate PersistentVolumeClaims"
    return ""


def _problems(world: World, pod: Thing, node: Thing) -> list[str]:
    labels = node["metadata"].get("labels", {})
    if any(labels.get(key) != value for key, value in pod["spec"].get("nodeSelector", {}).items()):
        return ["node(s) didn't match Pod's node affinity/selector"]
    if node["spec"].get("unschedulable"):
        return ["node(s) were unschedulable"]
    for taint in node["spec"].get("taints", ()):
        if not any(_tolerates(one, taint) for one in pod["spec"].get("tolerations", ())):
            said = f"{taint['key']}: {taint.get('value', '')}"
            return [f"node(s) had untolerated taint {{{said}}}"]
    free: Counter[str] = Counter({name: amount(value) for name, value in node["status"]["allocatable"].items()})
    for other in world.store.all(kinds.POD):
        done = other["status"].get("phase") in {"Failed", "Succeeded"}
        if other["spec"].get("nodeName") == node["metadata"]["name"] and not done:
            free.subtract(requests(other))
    return [
        "Too many pods" if name == "pods" else f"Insufficient {name}"
        for name, value in requests(pod).items()
        if value > free[name]
    ]


def _tolerates(toleration: Thing, taint: Thing) -> bool:
    if toleration.get("effect") not in {None, taint["effect"]}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, taint["key"]}
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


def _bind(world: World, pod: Thing, node: str) -> None:
    pod["spec"]["nodeName"] = node
    new = {"type": "PodScheduled", "status": "True"}
    conditions = with_condition(pod["status"].get("conditions", []), new, world.store.time())
    pod["status"] |= {"phase": "Pending", "conditions": conditions}
    world.store.put(kinds.POD, pod)
    metadata = pod["metadata"]
    message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
    world.event(pod, "Scheduled", message, _COMPONENT)
