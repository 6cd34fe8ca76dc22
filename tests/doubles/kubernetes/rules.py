"""What an object must be like beyond its types, and what may never change: the 422 answers of the real server."""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from tests.doubles.kubernetes import kinds, names, network_rules, pod_rules
from tests.doubles.kubernetes.frozen import unchanged
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import Cause, barred, required, too_long, unsupported, wrong
from tests.doubles.kubernetes.schema import lacking
from tests.doubles.kubernetes.selectors import matches

MOST_SECRET = 1024 * 1024
_TYPES = {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}
_KEY = r"[-._a-zA-Z0-9]+"


def objections(kind: Kind, thing: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
    """All at once, as the real server lists them."""
    missing = lacking(kind, thing)
    if missing:
        return missing
    found = list(names.metadata(kind, thing))
    if kind in _RULES:
        found += _RULES[kind](thing, thing.get("spec", {}))
    if old is not None:
        found += unchanged(kind, thing, old)
    return found


def _at_least(field: str, value: Any, least: int = 0) -> Iterator[Cause]:
    if isinstance(value, int) and value < least:
        yield wrong(field, value, f"must be greater than or equal to {least}")


def _template(spec: dict[str, Any], allowed: set[str]) -> Iterator[Cause]:
    template = spec.get("template", {})
    metadata = template.get("metadata", {})
    yield from names.labels("spec.template.labels", metadata.get("labels", {}))
    yield from names.annotations("spec.template.annotations", metadata.get("annotations", {}))
    yield from pod_rules.spec("spec.template.spec", template.get("spec", {}))
    if (policy := template.get("spec", {}).get("restartPolicy")) not in allowed:
        yield unsupported("spec.template.spec.restartPolicy", policy, allowed)


def _workload(_: dict[str, Any], spec: dict[str, Any]) -> Iterator[Cause]:
    selector = spec.get("selector", {})
    yield from names.selector("spec.selector", selector)
    if not selector:
        yield wrong("spec.selector", selector, "empty selector is invalid for deployment")
    labels = spec.get("template", {}).get("metadata", {}).get("labels", {})
    if not matches(selector, labels):
        yield wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    for field in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        yield from _at_least(f"spec.{field}", spec.get(field))
    if spec.get("progressDeadlineSeconds", 600) <= spec.get("minReadySeconds", 0):
        yield wrong(
            "spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"], "must be greater than minReadySeconds"
        )
    yield from _strategy(spec.get("strategy", {}))
    yield from _template(spec, {"Always"})


def _strategy(strategy: dict[str, Any]) -> Iterator[Cause]:
    if not strategy:
        return
    if strategy.get("type") not in {"Recreate", "RollingUpdate"}:
        yield unsupported("spec.strategy.type", strategy.get("type"), {"Recreate", "RollingUpdate"})
    elif strategy["type"] == "Recreate" and strategy.get("rollingUpdate"):
        yield barred("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    rolling = strategy.get("rollingUpdate") or {}
    for name in ("maxUnavailable", "maxSurge"):
        yield from _share(f"spec.strategy.rollingUpdate.{name}", rolling.get(name, 1))
    if rolling and {rolling.get("maxSurge"), rolling.get("maxUnavailable")} <= {0, "0%"}:
        yield wrong("spec.strategy.rollingUpdate.maxUnavailable", 0, "may not be 0 when `maxSurge` is 0")


def _share(field: str, value: Any) -> Iterator[Cause]:
    if isinstance(value, int):
        yield from _at_least(field, value)
    elif not re.fullmatch(r"[0-9]+%", value):
        yield wrong(field, value, "a valid percent string must be a numeric string followed by an ending '%'")


def _job(thing: dict[str, Any], spec: dict[str, Any]) -> Iterator[Cause]:
    for field in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        yield from _at_least(f"spec.{field}", spec.get(field))
    mode = spec.get("completionMode")
    if mode not in {"Indexed", "NonIndexed"}:
        yield unsupported("spec.completionMode", mode, {"Indexed", "NonIndexed"})
    if mode == "Indexed":
        if "completions" not in spec:
            yield required("spec.completions", "when completion mode is Indexed")
        elif spec["completions"] > 100_000 and spec.get("parallelism", 1) > 10_000:
            yield wrong("spec.parallelism", spec["parallelism"], "must be less than or equal to 10000")
    elif "backoffLimitPerIndex" in spec:
        yield wrong("spec.backoffLimitPerIndex", spec["backoffLimitPerIndex"], "requires indexed completion mode")
    if len(name := thing.get("metadata", {}).get("name", "")) > 63:
        yield wrong("spec.template.labels", name, "must be no more than 63 characters")
    yield from _template(spec, {"Never", "OnFailure"})


def _autoscaler(_: dict[str, Any], spec: dict[str, Any]) -> Iterator[Cause]:
    if spec.get("minReplicas", 1) < 1:
        yield wrong("spec.minReplicas", spec["minReplicas"], "must be greater than or equal to 1")
    if spec.get("maxReplicas", 0) < 1:
        yield wrong("spec.maxReplicas", spec["maxReplicas"], "must be greater than 0")
    elif spec["maxReplicas"] < spec.get("minReplicas", 1):
        yield wrong("spec.maxReplicas", spec["maxReplicas"], "must be greater than or equal to `minReplicas`")
    for number, metric in enumerate(spec.get("metrics", ())):
        at, kind = f"spec.metrics[{number}]", metric.get("type", "")
        source = kind[:1].lower() + kind[1:]
        if kind not in {"ContainerResource", "External", "Object", "Pods", "Resource"}:
            yield unsupported(f"{at}.type", kind, {"ContainerResource", "External", "Object", "Pods", "Resource"})
        elif source not in metric:
            yield required(f"{at}.{source}", "must populate information for the given metric source")
        else:
            target = metric[source].get("target", {})
            if target.get("type") not in {"AverageValue", "Utilization", "Value"}:
                yield wrong(
                    f"{at}.{source}.target.type",
                    target.get("type", ""),
                    "must be either Utilization, Value, or AverageValue",
                )
            if kind == "Resource" and not {"averageUtilization", "averageValue"} & set(target):
                yield required(
                    f"{at}.{source}.target.averageUtilization",
                    "must set either a target raw value or a target utilization",
                )
            if target.get("averageUtilization", 1) < 1:
                yield wrong(
                    f"{at}.{source}.target.averageUtilization", target["averageUtilization"], "must be greater than 0"
                )


def _budget(_: dict[str, Any], spec: dict[str, Any]) -> Iterator[Cause]:
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield wrong("spec", "", "minAvailable and maxUnavailable cannot be both set")
    for name in ("minAvailable", "maxUnavailable"):
        if name in spec:
            yield from _share(f"spec.{name}", spec[name])
    yield from names.selector("spec.selector", spec.get("selector", {}))


def _kept(kind: str):
    def checked(thing: dict[str, Any], _: dict[str, Any]) -> Iterator[Cause]:
        total = 0
        for field in ("data", "binaryData"):
            for key, value in thing.get(field, {}).items():
                if len(key) > 253 or not re.fullmatch(_KEY, key) or key in {".", ".."}:
                    yield wrong(
                        f"{field}[{key}]",
                        key,
                        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
                    )
                total += len(value.encode()) if kind == "ConfigMap" and field == "data" else _decoded(value)
        if total > MOST_SECRET:
            yield too_long("data" if kind == "Secret" else "", MOST_SECRET)
        needed = {"kubernetes.io/tls": ("tls.crt", "tls.key"), "kubernetes.io/dockerconfigjson": (".dockerconfigjson",)}
        for key in needed.get(thing.get("type", ""), ()):
            if key not in thing.get("data", {}):
                yield required(f"data[{key}]")

    return checked


def _decoded(value: str) -> int:
    return len(base64.b64decode(value))


def undecodable(kind: Kind, thing: dict[str, Any]) -> str | None:
    """The first value that is no base64, which the real server cannot read at all (400)."""
    fields = {kinds.SECRET: ("data",), kinds.CONFIG_MAP: ("binaryData",)}.get(kind, ())
    for field in fields:
        for value in (thing.get(field) or {}).values():
            try:
                base64.b64decode(value or "", validate=True)
            except binascii.Error:
                return "illegal base64 data at input byte 0"
    return None


def _binding(thing: dict[str, Any], _: dict[str, Any]) -> Iterator[Cause]:
    for number, one in enumerate(thing.get("subjects", ())):
        if one.get("kind") == "ServiceAccount" and not one.get("namespace"):
            yield required(f"subjects[{number}].namespace")
    if thing.get("roleRef", {}).get("kind") not in {"Role", "ClusterRole"}:
        yield unsupported("roleRef.kind", thing.get("roleRef", {}).get("kind"), {"Role", "ClusterRole"})


def _role(thing: dict[str, Any], _: dict[str, Any]) -> Iterator[Cause]:
    for number, one in enumerate(thing.get("rules", ()) or ()):
        for field in ("verbs", *(() if "nonResourceURLs" in one else ("apiGroups", "resources"))):
            if not one.get(field):
                yield required(f"rules[{number}].{field}")


def _pod(thing: dict[str, Any], spec: dict[str, Any]) -> Iterator[Cause]:
    yield from pod_rules.spec("spec", spec)


_RULES = {
    kinds.POD: _pod,
    kinds.DEPLOYMENT: _workload,
    kinds.REPLICA_SET: _workload,
    kinds.JOB: _job,
    kinds.SERVICE: network_rules.service,
    kinds.AUTOSCALER: _autoscaler,
    kinds.BUDGET: _budget,
    kinds.NETWORK_POLICY: network_rules.policy,
    kinds.INGRESS: network_rules.ingress,
    kinds.SECRET: _kept("Secret"),
    kinds.CONFIG_MAP: _kept("ConfigMap"),
    kinds.ROLE: _role,
    kinds.CLUSTER_ROLE: _role,
    kinds.ROLE_BINDING: _binding,
}
