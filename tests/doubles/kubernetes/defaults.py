"""What the server fills in: the defaults of Kubernetes 1.34, per kind."""

import base64
from typing import Any

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.kinds import Kind

_MOST = 2**31 - 1


def fill(kind: Kind, thing: dict[str, Any]) -> None:
    """In place."""
    if kind in _FILL:
        spec = (
            thing if kind in {kinds.SECRET, kinds.ENDPOINT_SLICE, kinds.ROLE_BINDING} else thing.setdefault("spec", {})
        )
        _FILL[kind](thing, spec)


def pod_spec(spec: dict[str, Any]) -> None:
    """Of a pod and of a template alike."""
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    if account := spec.get("serviceAccountName", spec.get("serviceAccount")):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        _container(container)
    for volume in spec.get("volumes", ()):
        _volume(volume)


def _container(container: dict[str, Any]) -> None:
    image = container.get("image", "")
    tag = "" if "@" in image else (image.rsplit("/", 1)[-1].partition(":")[2] or "latest")
    container.setdefault("imagePullPolicy", "Always" if tag == "latest" else "IfNotPresent")
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            for field, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1)):
                probe.setdefault(field, value)
            probe.setdefault("failureThreshold", 3)
            _http(probe)
            if "grpc" in probe:
                probe["grpc"].setdefault("service", "")
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _http(hook)
    for one in container.get("env", ()):
        if reference := (one.get("valueFrom") or {}).get("fieldRef"):
            reference.setdefault("apiVersion", "v1")


def _http(handler: dict[str, Any]) -> None:
    if "httpGet" in handler:
        handler["httpGet"].setdefault("path", "/")
        handler["httpGet"].setdefault("scheme", "HTTP")


def _volume(volume: dict[str, Any]) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for name in ("secret", "configMap", "projected", "downwardAPI"):
        if name in volume:
            volume[name].setdefault("defaultMode", 420)
    for source in volume.get("projected", {}).get("sources", ()):
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
    for item in volume.get("downwardAPI", {}).get("items", ()):
        item.get("fieldRef", {}).setdefault("apiVersion", "v1")
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")


def _template(spec: dict[str, Any]) -> None:
    template = spec.setdefault("template", {})
    pod_spec(template.setdefault("spec", {}))


def _pod(_: dict[str, Any], spec: dict[str, Any]) -> None:
    """Of a pod only: what is limited is requested, which a template does not show."""
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        resources = container.get("resources", {})
        for name, value in resources.get("limits", {}).items():
            resources.setdefault("requests", {}).setdefault(name, value)
    spec.setdefault("enableServiceLinks", True)
    pod_spec(spec)


def _deployment(_: dict[str, Any], spec: dict[str, Any]) -> None:
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    _template(spec)


def _replica_set(_: dict[str, Any], spec: dict[str, Any]) -> None:
    spec.setdefault("replicas", 1)
    _template(spec)


def _job(_: dict[str, Any], spec: dict[str, Any]) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", _MOST if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    _template(spec)


def _service(thing: dict[str, Any], spec: dict[str, Any]) -> None:
    spec.setdefault("sessionAffinity", "None")
    kind = spec.setdefault("type", "ClusterIP")
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in {None, 0, ""}:
            port["targetPort"] = port.get("port")
    if kind in {"NodePort", "LoadBalancer"}:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    thing.setdefault("status", {}).setdefault("loadBalancer", {})


def _autoscaler(_: dict[str, Any], spec: dict[str, Any]) -> None:
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if behavior := spec.get("behavior"):
        percent = {"type": "Percent", "value": 100, "periodSeconds": 15}
        up = behavior.setdefault("scaleUp", {})
        up.setdefault("stabilizationWindowSeconds", 0)
        up.setdefault("policies", [{"type": "Pods", "value": 4, "periodSeconds": 15}, percent])
        down = behavior.setdefault("scaleDown", {})
        down.setdefault("policies", [dict(percent)])
        for way in (up, down):
            way.setdefault("selectPolicy", "Max")


def _network_policy(_: dict[str, Any], spec: dict[str, Any]) -> None:
    spec.setdefault("policyTypes", ["Ingress", *(["Egress"] if spec.get("egress") else [])])
    for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
        for port in rule.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _secret(_: dict[str, Any], secret: dict[str, Any]) -> None:
    secret.setdefault("type", "Opaque")
    for name, text in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _namespace(thing: dict[str, Any], spec: dict[str, Any]) -> None:
    spec.setdefault("finalizers", ["kubernetes"])
    metadata = thing.setdefault("metadata", {})
    if name := metadata.get("name"):
        metadata.setdefault("labels", {})["kubernetes.io/metadata.name"] = name
    thing.setdefault("status", {}).setdefault("phase", "Active")


def _slice(_: dict[str, Any], thing: dict[str, Any]) -> None:
    for port in thing.get("ports", ()):
        port.setdefault("protocol", "TCP")
        port.setdefault("name", "")


def _role_binding(_: dict[str, Any], thing: dict[str, Any]) -> None:
    thing.get("roleRef", {}).setdefault("apiGroup", "rbac.authorization.k8s.io")
    for subject in thing.get("subjects", ()):
        if subject.get("kind") in {"User", "Group"}:
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")


_FILL = {
    kinds.POD: _pod,
    kinds.DEPLOYMENT: _deployment,
    kinds.REPLICA_SET: _replica_set,
    kinds.JOB: _job,
    kinds.SERVICE: _service,
    kinds.AUTOSCALER: _autoscaler,
    kinds.NETWORK_POLICY: _network_policy,
    kinds.SECRET: _secret,
    kinds.NAMESPACE: _namespace,
    kinds.ENDPOINT_SLICE: _slice,
    kinds.ROLE_BINDING: _role_binding,
}
