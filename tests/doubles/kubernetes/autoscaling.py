"""The HorizontalPodAutoscaler and the disruption controller: replicas by load, and how many pods may go."""

import math

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.quantities import amount
from tests.doubles.kubernetes.selectors import matches
from tests.doubles.kubernetes.world import Thing, World, active, controller, ready, with_condition

_COMPONENT = "horizontal-pod-autoscaler"
_TOLERANCE = 0.1
_MEASURE = "cpu resource utilization (percentage of request)"
_NO_METRICS = (
    "unable to get metrics for resource {0}: unable to fetch metrics from resource metrics API: the server could not "
    "find the requested resource (get pods.metrics.k8s.io)"
)


class Autoscalers:
    """``loads`` is what metrics-server would say: for a Deployment the percentage of each resource's request.

    A plain cluster has no metrics-server: without a load here an autoscaler only holds its bounds.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.loads: dict[tuple[str, str], dict[str, float]] = {}
        self._advised: dict[str, list[tuple[str, int]]] = {}

    def step(self) -> None:
        for scaler in self._world.store.all(kinds.AUTOSCALER):
            self._step(scaler)
        for budget in self._world.store.all(kinds.BUDGET):
            _count(self._world, budget)

    def _step(self, scaler: Thing) -> None:
        metadata, spec = scaler["metadata"], scaler["spec"]
        reference = spec["scaleTargetRef"]
        kind = {"Deployment": kinds.DEPLOYMENT, "ReplicaSet": kinds.REPLICA_SET}.get(reference["kind"])
        target = self._world.store.get(kind, metadata["namespace"], reference["name"]) if kind else None
        if kind is None or target is None:
            plural = kind.resource if kind else reference["kind"].lower()
            why = "the HPA controller was unable to get the target's current scale: "
            why += f'{plural} "{reference["name"]}" not found'
            self._report(scaler, 0, 0, [("AbleToScale", "False", "FailedGetScale", why)], [])
            return
        current, able = (
            target["spec"]["replicas"],
            ("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size"),
        )
        if current == 0:
            said = (
                "ScalingActive",
                "False",
                "ScalingDisabled",
                "scaling is disabled since the replica count of the target is zero",
            )
            self._report(scaler, 0, 0, [able, said], [])
            return
        wanted, conditions, metrics = self._advice(scaler, target, current)
        bounded = max(spec["minReplicas"], min(spec["maxReplicas"], wanted))
        if bounded != wanted:
            word, which = ("TooManyReplicas", "maximum") if wanted > bounded else ("TooFewReplicas", "minimum")
            way = "more than" if wanted > bounded else "less than"
            why = f"the desired replica count is {way} the {which} replica count"
            conditions.append(("ScalingLimited", "True", word, why))
        else:
            conditions.append(
                ("ScalingLimited", "False", "DesiredWithinRange", "the desired count is within the acceptable range")
            )
        if bounded != current:
            target["spec"]["replicas"] = bounded
            self._world.write(kind, target, subresource="scale")
            why = "All metrics below target" if bounded < current else f"{_MEASURE} above target"
            self._world.event(scaler, "SuccessfulRescale", f"New size: {bounded}; reason: {why}", _COMPONENT)
            able = (
                "AbleToScale",
                "True",
                "SucceededRescale",
                f"the HPA controller was able to update the target scale to {bounded}",
            )
        self._report(scaler, current, bounded, [able, *conditions], metrics)

    def _advice(
        self, scaler: Thing, target: Thing, current: int
    ) -> tuple[int, list[tuple[str, str, str, str]], list[Thing]]:
        """How many replicas the load asks for; outside of its bounds nobody is asked."""
        spec, metadata = scaler["spec"], scaler["metadata"]
        if not spec["minReplicas"] <= current <= spec["maxReplicas"]:
            return max(spec["minReplicas"], min(spec["maxReplicas"], current)), [], []
        load = self.loads.get((metadata["namespace"], target["metadata"]["name"]))
        wanted, metrics, problem = 0, [], ""
        for metric in spec["metrics"]:
            name = metric.get("resource", {}).get("name", "")
            if load is None or name not in load:
                problem = f"failed to get {name} utilization: " + _NO_METRICS.format(name)
                continue
            if lacking := self._without_request(target, name):
                problem = f"failed to get {name} utilization: missing request for {name} in container {lacking}"
                continue
            aim = metric["resource"]["target"]["averageUtilization"]
            ratio = load[name] / aim
            advised = current if abs(ratio - 1) <= _TOLERANCE else math.ceil(current * ratio)
            wanted = max(wanted, advised)
            now = {"averageUtilization": int(load[name]), "averageValue": "1"}
            metrics.append({"type": "Resource", "resource": {"name": name, "current": now}})
        if problem:
            why = f"the HPA was unable to compute the replica count: {problem}"
            self._world.event(scaler, "FailedGetResourceMetric", problem, _COMPONENT, warns=True)
            if not metrics or wanted < current:
                return current, [("ScalingActive", "False", "FailedGetResourceMetric", why)], metrics
        why = "the HPA was able to successfully calculate a replica count from " + _MEASURE
        return self._stable(scaler, wanted), [("ScalingActive", "True", "ValidMetricFound", why)], metrics

    def _without_request(self, target: Thing, resource: str) -> str:
        for container in target["spec"]["template"]["spec"]["containers"]:
            resources = container.get("resources", {})
            if not amount((resources.get("requests") or resources.get("limits") or {}).get(resource, 0)):
                return f"{container['name']} of Pod {target['metadata']['name']}"
        return ""

    def _stable(self, scaler: Thing, wanted: int) -> int:
        """Down only to the most that was advised within the window, five minutes unless said otherwise."""
        window = scaler["spec"].get("behavior", {}).get("scaleDown", {}).get("stabilizationWindowSeconds", 300)
        store, uid = self._world.store, scaler["metadata"]["uid"]
        advised = [one for one in self._advised.get(uid, []) if store.since(one[0]) < window]
        self._advised[uid] = [*advised, (store.time(), wanted)]
        return max(number for _, number in self._advised[uid])

    def _report(
        self,
        scaler: Thing,
        current: int,
        wanted: int,
        conditions: list[tuple[str, str, str, str]],
        metrics: list[Thing],
    ) -> None:
        before = scaler["status"]
        listed = list(before.get("conditions", []))
        for kind, status, reason, message in conditions:
            new = {"type": kind, "status": status, "reason": reason, "message": message}
            listed = with_condition(listed, new, self._world.store.time())
        status = {"currentReplicas": current, "desiredReplicas": wanted, "conditions": listed}
        if current != wanted:
            status["lastScaleTime"] = self._world.store.time()
        elif "lastScaleTime" in before:
            status["lastScaleTime"] = before["lastScaleTime"]
        self._world.status(kinds.AUTOSCALER, scaler, status | ({"currentMetrics": metrics} if metrics else {}))


def _count(world: World, budget: Thing) -> None:
    metadata, spec = budget["metadata"], budget["spec"]
    pods = [
        pod
        for pod in world.store.all(kinds.POD, metadata["namespace"])
        if active(pod) and "selector" in spec and matches(spec["selector"], pod["metadata"].get("labels", {}))
    ]
    sets = {
        one["metadata"]["uid"]: one["spec"]["replicas"]
        for one in world.store.all(kinds.REPLICA_SET, metadata["namespace"])
    }
    owners = {(controller(pod) or {}).get("uid") for pod in pods}
    expected = sum(sets.get(uid, 0) for uid in owners) or len(pods)
    healthy = sum(map(ready, pods))
    if "maxUnavailable" in spec:
        wanted = expected - _share(spec["maxUnavailable"], expected)
    else:
        wanted = _share(spec.get("minAvailable", 0), expected)
    allowed = max(0, healthy - wanted)
    said = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    new = {"type": "DisruptionAllowed", "status": said[0], "reason": said[1], "message": ""}
    new["observedGeneration"] = metadata["generation"]
    status = {
        "currentHealthy": healthy,
        "desiredHealthy": wanted,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": metadata["generation"],
        "conditions": with_condition(budget["status"].get("conditions", []), new, world.store.time()),
    }
    world.status(kinds.BUDGET, budget, status)


def _share(value: int | str, whole: int) -> int:
    return value if isinstance(value, int) else math.ceil(int(value.rstrip("%")) * whole / 100)
