"""What may never change once it is there, with the words of the real server."""

from collections.abc import Iterator
from typing import Any

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import Cause, barred, wrong

# What may not be changed: paths, and what the server says of them.
_FROZEN: dict[Kind, tuple[str, ...]] = {
    kinds.DEPLOYMENT: ("spec.selector",),
    kinds.REPLICA_SET: ("spec.selector",),
    kinds.JOB: (
        "spec.template",
        "spec.selector",
        "spec.completionMode",
        "spec.backoffLimitPerIndex",
        "spec.podFailurePolicy",
    ),
    kinds.SECRET: ("type",),
    kinds.ENDPOINT_SLICE: ("addressType",),
}


def unchanged(kind: Kind, thing: dict[str, Any], old: dict[str, Any]) -> Iterator[Cause]:  # noqa: C901 - a list of rules
    for path in _FROZEN.get(kind, ()):
        if _at(thing, path) != _at(old, path):
            yield wrong(path, _at(thing, path), "field is immutable")
    if kind is kinds.JOB and _at(thing, "spec.completions") != _at(old, "spec.completions"):
        elastic = _at(thing, "spec.completionMode") == "Indexed" and _at(thing, "spec.completions") == _at(
            thing, "spec.parallelism"
        )
        if not elastic:
            yield wrong("spec.completions", _at(thing, "spec.completions"), "field is immutable")
    if kind is kinds.SERVICE:
        before, now = old["spec"], thing["spec"]
        same = before.get("type") != "ExternalName" and now.get("type") != "ExternalName"
        if same and before.get("clusterIP") and before["clusterIP"] != now.get("clusterIP"):
            yield wrong("spec.clusterIPs[0]", now.get("clusterIPs", [""]), "may not change once set")
    if kind in {kinds.SECRET, kinds.CONFIG_MAP} and old.get("immutable"):
        for field in ("data", "binaryData"):
            if old.get(field) != thing.get(field):
                yield barred(field, "field is immutable when `immutable` is set")
        if not thing.get("immutable"):
            yield barred("immutable", "field is immutable when `immutable` is set")
    if kind in {kinds.ROLE_BINDING, kinds.CLUSTER_ROLE_BINDING} and old.get("roleRef") != thing.get("roleRef"):
        yield wrong("roleRef", thing.get("roleRef"), "cannot change roleRef")
    if kind is kinds.POD:
        yield from _pod_unchanged(thing["spec"], old["spec"])


def _pod_unchanged(now: dict[str, Any], before: dict[str, Any]) -> Iterator[Cause]:
    def fixed(spec: dict[str, Any]) -> dict[str, Any]:
        free = {"activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "nodeName"}
        groups = {
            group: [{k: v for k, v in one.items() if k != "image"} for one in spec.get(group, ())]
            for group in ("containers", "initContainers")
        }
        return {key: value for key, value in spec.items() if key not in free} | groups

    if fixed(now) != fixed(before):
        yield barred("spec", "pod updates may not change fields other than `spec.containers[*].image`")


def _at(thing: dict[str, Any], path: str) -> Any:
    for part in path.split("."):
        thing = thing.get(part) if isinstance(thing, dict) else None
    return thing
