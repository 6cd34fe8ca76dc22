"""What admission adds to an object or refuses of it: service accounts of pods, Pod Security Standards, quotas."""

import secrets
from typing import Any

from tests.doubles.kubernetes import kinds, refusals
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.pod_security import violations
from tests.doubles.kubernetes.store import Store

_TOKENS = "/var/run/secrets/kubernetes.io/serviceaccount"


def admit(store: Store, kind: Kind, thing: dict[str, Any], quotas: dict[str, int]) -> None:
    """In place; only pods are looked at, so a Deployment of forbidden pods is taken, and has no pods.

    ``quotas`` says how many pods there may be in a namespace.
    """
    if kind is not kinds.POD:
        return
    _account(store, thing)
    namespace = store.get(kinds.NAMESPACE, "", thing["metadata"]["namespace"]) or {}
    level = namespace.get("metadata", {}).get("labels", {}).get("pod-security.kubernetes.io/enforce", "privileged")
    if found := violations(level, thing["spec"]):
        why = f'violates PodSecurity "{level}:latest": ' + ", ".join(found)
        raise refusals.forbidden(kind, thing["metadata"]["name"], why)
    _count(store, thing, quotas)


def _count(store: Store, pod: dict[str, Any], quotas: dict[str, int]) -> None:
    metadata = pod["metadata"]
    most, pods = quotas.get(metadata["namespace"]), store.all(kinds.POD, metadata["namespace"])
    used = sum(one["status"].get("phase") not in {"Failed", "Succeeded"} for one in pods)
    if most is not None and used >= most:
        why = f"exceeded quota: pods, requested: pods=1, used: pods={used}, limited: pods={most}"
        raise refusals.forbidden(kinds.POD, metadata["name"], why)


def _account(store: Store, pod: dict[str, Any]) -> None:
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    name = spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = name
    account = store.get(kinds.SERVICE_ACCOUNT, namespace, name)
    if account is None:
        why = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
        raise refusals.forbidden(kinds.POD, pod["metadata"]["name"], why)
    if "imagePullSecrets" in account and not spec.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
        _token(spec)


def _token(spec: dict[str, Any]) -> None:
    volume = f"kube-api-access-{secrets.token_hex(3)[:5]}"
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    needing = [one for one in containers if all(mount["mountPath"] != _TOKENS for mount in one.get("volumeMounts", ()))]
    if not needing:
        return
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    certificate = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    field = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [token, certificate, {"downwardAPI": {"items": [field]}}]
    spec.setdefault("volumes", []).append({"name": volume, "projected": {"defaultMode": 420, "sources": sources}})
    for container in needing:
        container.setdefault("volumeMounts", []).append({"name": volume, "readOnly": True, "mountPath": _TOKENS})
