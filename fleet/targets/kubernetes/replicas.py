"""What a group of replicas is made of in a namespace: pure functions.

A group's name follows from the pod's form, so another module, limit or image is another group beside the old one; how
many pods it has is no part of it.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fleet.targets import runtimes, secret_files
from fleet.targets.contract import Wanted, WantedVersion
from fleet.targets.groups import PORT, Group
from fleet.targets.kubernetes import pods
from fleet.targets.kubernetes.attached import Attached
from fleet.targets.kubernetes.names import MANAGER, Names, group_name, shown
from fleet.targets.settings import Settings
from modules.manifest import Runtime

#: so often a group's address stands in the gateway's table: what a pod could not answer goes to another one
WAYS: Final = 2
_SCALES_UP: Final = 4


class Made(NamedTuple):
    """A group as it is wanted: of which version, in which runtime, and the pod that its replicas are."""

    group: Group
    version: WantedVersion
    runtime: Runtime
    template: dict[str, Any]
    least: int
    most: int


def made(attached: Attached, wanted: Wanted) -> list[Made]:
    """The groups of an endpoint, the default version's first.

    Raises:
        Unfit: a module has no runtime for the target.
    """
    found = []
    settings = wanted.settings
    for one in wanted.versions:
        runtime = runtimes.chosen(one.module, attached.platform, attached.accelerator)
        memory = runtimes.memory_mb(one.module, settings)
        mark = secret_files.mark(wanted, one)
        template = pods.replica(attached, one, runtime, settings, memory_mb=memory, secrets=mark)
        least = settings.autoscale_min if settings.autoscale_max else one.replicas
        group = Group(
            name=group_name(one.name, json.dumps(template, sort_keys=True)),
            version=one.name,
            module=str(one.module.manifest.ref),
            count=WAYS,
            weight=one.weight,
            memory_mb=memory,
        )
        found.append(Made(group, one, runtime, template, least, max(least, settings.autoscale_max)))
    return found


def objects(names: Names, one: Made, settings: Settings, *, seen: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What the cluster is to have for a group.

    Args:
        names: of the endpoint.
        one: the group.
        settings: of the endpoint.
        seen: its Deployment as it is there.
    """
    group = one.group.name
    labels = names.of("replica", group)
    name = names.group(group)
    found = [
        _service(name, labels, labels),
        # Not for clients' requests: a gateway asks there what each pod says of itself.
        _service(names.each(group), names.of("each", group), labels, clusterIP="None"),
        _deployment(names, one, labels, _count(one, settings, seen)),
        budget(name, labels),
    ]
    if settings.autoscale_max:
        found.append(_autoscaler(name, labels, one, settings))
    return found


def budget(name: str, labels: dict[str, str]) -> dict[str, Any]:
    """How many pods an operator who empties a node may end at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": labels},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }


def _count(one: Made, settings: Settings, seen: Mapping[str, Any] | None) -> int | None:
    """How many pods to ask for; None: the cluster itself says so."""
    if not settings.autoscale_max:
        return one.least
    if seen is None:
        return one.least
    # Left out while it is ours, it would fall to 1 at once; said while it is the autoscaler's, it would be undone.
    for entry in seen["metadata"].get("managedFields") or ():
        owned = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if entry.get("manager") != MANAGER and "f:replicas" in owned:
            return None
    return min(max(int(seen["spec"].get("replicas", 1)), one.least), one.most)


def _deployment(names: Names, one: Made, labels: dict[str, str], count: int | None) -> dict[str, Any]:
    template = one.template
    settings = pods.settings(names.content(one.group.name))
    volumes = [settings, *template["spec"]["volumes"]]
    if one.version.secrets:
        volumes.append(pods.secrets(names.secrets(one.group.name)))
    spec = template["spec"] | {
        "serviceAccountName": names.whole,
        "topologySpreadConstraints": pods.spread(labels),
        "volumes": volumes,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": names.group(one.group.name), "labels": labels},
        "spec": ({} if count is None else {"replicas": count})
        | {
            "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": labels},
            "template": {"metadata": template["metadata"] | {"labels": labels}, "spec": spec},
        },
    }


def _service(name: str, labels: dict[str, str], to: dict[str, str], **more: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "selector": to,
            "ports": [{"name": "score", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
            **more,
        },
    }


def _autoscaler(name: str, labels: dict[str, str], one: Made, settings: Settings) -> dict[str, Any]:
    each = settings.autoscale_refresh_s
    target = {"type": "Utilization", "averageUtilization": settings.autoscale_target}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": one.least,
            "maxReplicas": one.most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {
                "scaleUp": {
                    "policies": [
                        {"type": "Percent", "value": 100, "periodSeconds": each},
                        {"type": "Pods", "value": _SCALES_UP, "periodSeconds": each},
                    ]
                },
                "scaleDown": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": each}]},
            },
        },
    }


def ready(deployment: Mapping[str, Any], least: int) -> bool:
    """Whether so many pods of a Deployment, all of its newest form, can be asked."""
    status = deployment.get("status") or {}
    seen = int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 0))
    updated = int(status.get("updatedReplicas", 0)) >= least
    return seen and updated and int(status.get("availableReplicas", 0)) >= least


def named(listed: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {shown(one): one for one in listed}
