"""Deleting: at once, after a grace period, or when what depends on it has gone."""

from typing import Any

from tests.doubles.kubernetes import kinds, refusals
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.store import Store

_POLICIES = {"Background", "Foreground", "Orphan"}
# Their deletion answers with the object; that of others with a Status.
_SHOWN = {kinds.POD, kinds.SERVICE, kinds.SERVICE_ACCOUNT, kinds.NAMESPACE}


def delete(store: Store, kind: Kind, thing: dict[str, Any], options: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """What is answered, and whether the object has gone."""
    metadata = thing["metadata"]
    _see_preconditions(kind, metadata, options.get("preconditions") or {})
    policy = options.get("propagationPolicy")
    if policy is not None and policy not in _POLICIES:
        cause = refusals.unsupported("propagationPolicy", policy, _POLICIES)
        raise refusals.Refused(422, "Invalid", f'DeleteOptions.meta.k8s.io "" is invalid: {cause}')
    if policy is None and kind is kinds.JOB:
        policy = "Orphan"  # batch/v1 kept this for compatibility: pods of a job stay unless one asks
    finalizers = list(metadata.get("finalizers", []))
    waits = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(policy or "")
    if waits and waits not in finalizers and not metadata.get("deletionTimestamp"):
        finalizers.append(waits)
    grace = _grace(kind, thing, options.get("gracePeriodSeconds"))
    stays = bool(finalizers) or grace > 0 or kind is kinds.NAMESPACE
    if not stays:
        store.remove(kind, thing)
        return (thing if kind in _SHOWN else _success(kind, metadata)), True
    _mark(store, kind, thing, finalizers, grace)
    return thing, False


def _mark(store: Store, kind: Kind, thing: dict[str, Any], finalizers: list[str], grace: int) -> None:
    """It stays for now, and says until when and for whom."""
    metadata = thing["metadata"]
    if finalizers:
        metadata["finalizers"] = finalizers
    if not metadata.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = store.time()
        metadata["deletionGracePeriodSeconds"] = grace
        if "generation" in metadata:
            metadata["generation"] += 1
        if kind is kinds.NAMESPACE:
            thing["status"]["phase"] = "Terminating"
            del metadata["deletionGracePeriodSeconds"]
        store.put(kind, thing)
    elif grace < metadata.get("deletionGracePeriodSeconds", grace):
        metadata["deletionGracePeriodSeconds"] = grace
        store.put(kind, thing)


def _grace(kind: Kind, thing: dict[str, Any], asked: int | None) -> int:
    """Only pods that a node runs are given time."""
    done = thing.get("status", {}).get("phase") in {"Failed", "Succeeded"}
    if kind is not kinds.POD or done or not thing["spec"].get("nodeName"):
        return 0
    return thing["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else max(asked, 0)


def _see_preconditions(kind: Kind, metadata: dict[str, Any], wanted: dict[str, Any]) -> None:
    for field, said in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(field) and wanted[field] != metadata[field]:
            why = (
                f"Precondition failed: {said} in precondition: {wanted[field]}, "
                f"{said} in object meta: {metadata[field]}"
            )
            raise refusals.conflict(kind, metadata["name"], why)


def _success(kind: Kind, metadata: dict[str, Any]) -> dict[str, Any]:
    group = {"group": kind.group} if kind.group else {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": metadata["name"], **group, "kind": kind.plural, "uid": metadata["uid"]},
    }
