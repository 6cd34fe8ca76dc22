"""The scale subresource: the number of replicas, for whoever may change nothing else."""

from typing import Any

from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import bad_request, invalid, wrong

_SHOWN = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def read_scale(thing: dict[str, Any]) -> dict[str, Any]:
    labels = thing["spec"].get("selector", {}).get("matchLabels", {})
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: thing["metadata"][key] for key in _SHOWN},
        "spec": {"replicas": thing["spec"]["replicas"]} if thing["spec"]["replicas"] else {},
        "status": {
            "replicas": thing.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
        },
    }


def with_scale(kind: Kind, live: dict[str, Any], scale: dict[str, Any]) -> dict[str, Any]:
    """The whole object with the replicas of a Scale."""
    if scale.get("kind") != "Scale":
        raise bad_request(f"wrong object passed to Scale update: {scale.get('kind')}")
    replicas = scale.get("spec", {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        cause = wrong("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(kind, live["metadata"]["name"], [cause])
    new = copied(live)
    new["spec"]["replicas"] = replicas
    if version := scale.get("metadata", {}).get("resourceVersion"):
        new["metadata"]["resourceVersion"] = version
    return new
