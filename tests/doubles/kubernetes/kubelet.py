"""The kubelets of all nodes: pods from Pending over their init containers to Ready, and to their end."""

from typing import Any

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.containers import Containers
from tests.doubles.kubernetes.quantities import amount
from tests.doubles.kubernetes.world import KUBELET, Thing, World, with_condition

_VOLUMES = (("secret", "secretName", kinds.SECRET), ("configMap", "name", kinds.CONFIG_MAP))


class Kubelet:
    """One step moves each pod by one thing that a person could see."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pods: dict[str, Containers] = {}
        self._addresses = 1
        self.stops = True

    def step(self) -> None:
        present = set()
        for pod in self._world.store.all(kinds.POD):
            present.add(pod["metadata"]["uid"])
            if not pod["spec"].get("nodeName"):
                continue
            if pod["metadata"].get("deletionTimestamp"):
                self._stop(pod)
            elif pod["status"].get("phase") not in {"Failed", "Succeeded"}:
                self._step(pod)
        for uid in set(self._pods) - present:
            del self._pods[uid]

    def _stop(self, pod: Thing) -> None:
        """When its time is over, or at once where its containers listen to SIGTERM (``stops``)."""
        metadata = pod["metadata"]
        over = self._world.store.since(metadata["deletionTimestamp"]) >= metadata["deletionGracePeriodSeconds"]
        if self.stops or over:
            finalizers = metadata.get("finalizers", [])
            if not finalizers:
                self._world.store.remove(kinds.POD, pod)

    def _step(self, pod: Thing) -> None:
        containers = self._pods.setdefault(pod["metadata"]["uid"], Containers(self._world, pod))
        containers.pod = pod
        spec, first = pod["spec"], "startTime" not in pod["status"]
        if first:
            pod["status"] |= {"startTime": self._world.store.time(), "qosClass": _quality(spec)}
        elif self._mounted(pod) and self._initialised(containers):
            if "podIP" not in pod["status"]:
                self._addresses += 1
                address = f"10.244.{self._addresses // 250}.{self._addresses % 250 + 1}"
                pod["status"] |= {"podIP": address, "podIPs": [{"ip": address}]}
            for one in spec["containers"]:
                containers.advance(one, init=False, policy=spec["restartPolicy"])
        status = _status(self._world, pod, containers)
        if status != pod["status"] or first:
            self._world.status(kinds.POD, pod, status, KUBELET)

    def _mounted(self, pod: Thing) -> bool:
        """Secrets and ConfigMaps that volumes name are there."""
        namespace = pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes", ()):
            for field, named, kind in _VOLUMES:
                source: Any = volume.get(field)
                for one in (
                    [source]
                    if source
                    else [s[field] for s in volume.get("projected", {}).get("sources", ()) if field in s]
                ):
                    name = one.get(named) or one.get("name")
                    if one.get("optional") or self._world.store.get(kind, namespace, name) is not None:
                        continue
                    why = f'MountVolume.SetUp failed for volume "{volume["name"]}" : '
                    why += f'{kind.name.lower()} "{name}" not found'
                    self._world.event(pod, "FailedMount", why, KUBELET, warns=True)
                    return False
        return True

    def _initialised(self, containers: Containers) -> bool:
        """One after the other; the next begins when the one before has ended well."""
        spec = containers.pod["spec"]
        for one in spec.get("initContainers", ()):
            run = containers.run(one["name"])
            if run.code == 0:
                continue
            always = one.get("restartPolicy") == "Always"
            if always and run.running and run.started:
                containers.advance(one, init=False, policy="Always")
                continue
            behaviour = containers.behaviour(one)
            if run.running and not always and behaviour.exits is None and not behaviour.oom:
                containers.end(one, 0, "Completed")  # what is not said to fail does its work
            else:
                containers.advance(one, init=True, policy=spec["restartPolicy"])
            return False
        return True


def _quality(spec: Thing) -> str:
    """Guaranteed, Burstable or BestEffort."""
    every = [*spec.get("initContainers", ()), *spec["containers"]]
    limits = [one.get("resources", {}).get("limits", {}) for one in every]
    wanted = [one.get("resources", {}).get("requests", {}) for one in every]
    named = ("cpu", "memory")
    if not any(name in one for one in (*limits, *wanted) for name in named):
        return "BestEffort"
    same = all(
        name in limit and amount(limit[name]) == amount(want.get(name, limit[name]))
        for limit, want in zip(limits, wanted, strict=True)
        for name in named
    )
    return "Guaranteed" if same else "Burstable"


def _status(world: World, pod: Thing, containers: Containers) -> Thing:
    spec, now = pod["spec"], world.store.time()
    init = [containers.status(one, init=True) for one in spec.get("initContainers", ())]
    main = [containers.status(one, init=False) for one in spec["containers"]]
    done = all(one["ready"] for one in init)
    phase = _phase(spec, init, main, done=done)
    for one in (*init, *main):
        if (
            "waiting" in one["state"]
            and one["state"]["waiting"]["reason"] == "ContainerCreating"
            and spec.get("initContainers")
        ):
            one["state"] = {"waiting": {"reason": "PodInitializing"}}
    conditions = list(pod["status"].get("conditions", []))
    unready = [one["name"] for one in main if not one["ready"]]
    incomplete = [one["name"] for one in init if not one["ready"]]
    over = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    for kind, names, word, reason in (
        ("Initialized", incomplete, "incomplete", "ContainersNotInitialized"),
        ("Ready", unready or incomplete, "unready", "ContainersNotReady"),
        ("ContainersReady", unready or incomplete, "unready", "ContainersNotReady"),
    ):
        new = {"type": kind, "status": "False" if names else "True"}
        if names:
            listed = " ".join(unready if kind != "Initialized" else names)
            new |= {"reason": reason, "message": f"containers with {word} status: [{listed}]"}
        if over and kind != "Initialized":
            new = {"type": kind, "status": "False", "reason": over}
        conditions = with_condition(conditions, new, now)
    conditions = with_condition(conditions, {"type": "PodReadyToStartContainers", "status": "True"}, now)
    status = pod["status"] | {"phase": phase, "conditions": conditions, "containerStatuses": main}
    status |= {"hostIP": "192.168.0.1", "hostIPs": [{"ip": "192.168.0.1"}]}
    return status | ({"initContainerStatuses": init} if init else {})


def _phase(spec: Thing, init: list[Thing], main: list[Thing], *, done: bool) -> str:
    failed = [one for one in init if one["state"].get("terminated", {}).get("exitCode", 0)]
    if failed and spec["restartPolicy"] == "Never":
        return "Failed"
    if not done or any("waiting" in one["state"] and not one["lastState"] for one in main):
        return "Pending"
    ended = [one["state"]["terminated"]["exitCode"] for one in main if "terminated" in one["state"]]
    if len(ended) == len(main) and spec["restartPolicy"] != "Always":
        if not any(ended):
            return "Succeeded"
        return "Failed" if spec["restartPolicy"] == "Never" else "Running"
    return "Running"
