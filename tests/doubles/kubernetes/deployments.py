"""The Deployment controller: ReplicaSets by revision, rolled over by maxSurge and maxUnavailable."""

import hashlib
import json
import math
from typing import Any

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.kubernetes.world import MANAGER, Thing, World, active, condition, owner_reference, with_condition

_COMPONENT = "deployment-controller"
_REVISION = "deployment.kubernetes.io/revision"
_HASH = "pod-template-hash"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def step(world: World) -> None:
    for found in world.store.all(kinds.DEPLOYMENT):
        if found["metadata"].get("deletionTimestamp") is None:
            _step(world, found)


def _step(world: World, found: Thing) -> None:
    sets = world.owned(kinds.REPLICA_SET, found)
    new = next((one for one in sets if _template(one) == found["spec"]["template"]), None)
    old = [one for one in sets if one is not new]
    if not found["spec"].get("paused"):
        if found["spec"]["strategy"]["type"] == "Recreate":
            new = _recreate(world, found, new, old)
        else:
            new = new or _make(world, found, old)
            _roll(world, found, new, old)
    elif new is not None and new["spec"]["replicas"] != found["spec"]["replicas"]:
        _scale(world, found, new, found["spec"]["replicas"])
    if new is not None:
        found = _count_revision(world, found, new, old)
    _report(world, found)
    _clean(world, found, new)


def _template(replica_set: Thing) -> Thing:
    template = copied(replica_set["spec"]["template"])
    template["metadata"]["labels"].pop(_HASH, None)
    return template


def _make(world: World, found: Thing, old: list[Thing]) -> Thing:
    template = copied(found["spec"]["template"])
    digest = int(hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest(), 16)
    letters = "".join(_LETTERS[digest // len(_LETTERS) ** place % len(_LETTERS)] for place in range(10))
    template["metadata"]["labels"][_HASH] = letters
    selector = copied(found["spec"]["selector"])
    selector.setdefault("matchLabels", {})[_HASH] = letters
    surge, _ = _bounds(found)
    room = found["spec"]["replicas"] + surge - sum(one["spec"]["replicas"] for one in old)
    replicas = max(0, min(found["spec"]["replicas"], room)) if old else found["spec"]["replicas"]
    body = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{found['metadata']['name']}-{letters}",
            "namespace": found["metadata"]["namespace"],
            "labels": template["metadata"]["labels"],
            "annotations": {_REVISION: str(1 + max((_revision(one) for one in old), default=0))},
            "ownerReferences": [owner_reference(found)],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template}
        | ({"minReadySeconds": least} if (least := found["spec"].get("minReadySeconds")) else {}),
    }
    made = world.api.create(kinds.REPLICA_SET, found["metadata"]["namespace"], body, Writer(MANAGER))
    _say(world, found, made, "up", 0, replicas)
    return made


def _revision(replica_set: Thing) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(_REVISION, 0))


def _share(value: Any, whole: int, rounded: Any) -> int:
    return value if isinstance(value, int) else rounded(int(value.rstrip("%")) * whole / 100)


def _bounds(found: Thing) -> tuple[int, int]:
    """How many pods there may be too many, and too few."""
    rolling, replicas = found["spec"]["strategy"].get("rollingUpdate") or {}, found["spec"]["replicas"]
    surge = _share(rolling.get("maxSurge", 0), replicas, math.ceil)
    missing = _share(rolling.get("maxUnavailable", 0), replicas, math.floor)
    return surge, missing if surge or missing else 1


def _scale(world: World, found: Thing, one: Thing, replicas: int) -> None:
    before = one["spec"]["replicas"]
    if before == replicas:
        return
    one["spec"]["replicas"] = replicas
    world.write(kinds.REPLICA_SET, copied(one))
    _say(world, found, one, "up" if replicas > before else "down", before, replicas)


def _say(world: World, found: Thing, one: Thing, way: str, before: int, replicas: int) -> None:
    message = f"Scaled {way} replica set {one['metadata']['name']} from {before} to {replicas}"
    world.event(found, "ScalingReplicaSet", message, _COMPONENT)


def _recreate(world: World, found: Thing, new: Thing | None, old: list[Thing]) -> Thing | None:
    for one in old:
        _scale(world, found, one, 0)
    if any(world.owned(kinds.POD, one) for one in old):
        return new
    new = new or _make(world, found, [])
    _scale(world, found, new, found["spec"]["replicas"])
    return new


def _roll(world: World, found: Thing, new: Thing, old: list[Thing]) -> None:
    replicas, (surge, missing) = found["spec"]["replicas"], _bounds(found)
    total = sum(one["spec"]["replicas"] for one in (new, *old))
    if new["spec"]["replicas"] > replicas:
        _scale(world, found, new, replicas)
    elif new["spec"]["replicas"] < replicas and total < replicas + surge:
        more = min(replicas + surge - total, replicas - new["spec"]["replicas"])
        _scale(world, found, new, new["spec"]["replicas"] + more)
        return  # one thing a pass, as the real one does
    least = replicas - missing
    unavailable = new["spec"]["replicas"] - new["status"].get("availableReplicas", 0)
    spare = sum(one["spec"]["replicas"] for one in (new, *old)) - least - unavailable
    for one in sorted(old, key=_revision):  # what does not work goes first
        broken = one["spec"]["replicas"] - one["status"].get("availableReplicas", 0)
        gone = max(0, min(broken, spare))
        if gone:
            _scale(world, found, one, one["spec"]["replicas"] - gone)
            spare -= gone
    works = sum(one["status"].get("availableReplicas", 0) for one in (new, *old))
    spare = min(spare, works - least)
    for one in sorted(old, key=_revision):
        gone = max(0, min(one["spec"]["replicas"], spare))
        if gone:
            _scale(world, found, one, one["spec"]["replicas"] - gone)
            spare -= gone


def _count_revision(world: World, found: Thing, new: Thing, old: list[Thing]) -> Thing:
    """A template that comes back is a new revision of the old ReplicaSet."""
    number = max((_revision(one) for one in old), default=0) + 1
    new = world.store.get(kinds.REPLICA_SET, new["metadata"]["namespace"], new["metadata"]["name"]) or new
    if _revision(new) < number:
        new["metadata"].setdefault("annotations", {})[_REVISION] = str(number)
        new = world.write(kinds.REPLICA_SET, new)
    if found["metadata"].get("annotations", {}).get(_REVISION) != str(_revision(new)):
        found["metadata"].setdefault("annotations", {})[_REVISION] = str(_revision(new))
        return world.write(kinds.DEPLOYMENT, found)
    return found


def _report(world: World, found: Thing) -> None:
    sets = world.owned(kinds.REPLICA_SET, found)
    new = next((one for one in sets if _template(one) == found["spec"]["template"]), None)

    def total(field: str) -> int:
        return sum(one["status"].get(field, 0) for one in sets)

    before, replicas = found["status"], found["spec"]["replicas"]
    status = {
        "observedGeneration": found["metadata"]["generation"],
        "replicas": total("replicas"),
        "updatedReplicas": new["status"].get("replicas", 0) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
        "unavailableReplicas": max(0, sum(one["spec"]["replicas"] for one in sets) - total("availableReplicas")),
    }
    conditions, now = list(before.get("conditions", [])), world.store.time()
    enough = status["availableReplicas"] >= replicas - _bounds(found)[1]
    said = (
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        if enough
        else ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    )
    conditions = with_condition(conditions, _condition("Available", *said), now, updates=True)
    if new is not None:
        conditions = _progress(world, found, new, status, conditions)
    failing = [one for one in sets if (one["status"].get("conditions") or [{}])[0].get("type") == "ReplicaFailure"]
    conditions = [one for one in conditions if one["type"] != "ReplicaFailure"]
    if failing:
        failure = failing[0]["status"]["conditions"][0]
        told = _condition("ReplicaFailure", "True", failure["reason"], failure["message"])
        conditions = with_condition(conditions, told, failure["lastTransitionTime"], updates=True)
    world.status(kinds.DEPLOYMENT, found, status | {"conditions": conditions})


def _condition(kind: str, status: str, reason: str, message: str) -> Thing:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _progress(world: World, found: Thing, new: Thing, status: Thing, conditions: list[Thing]) -> list[Thing]:
    """The clock of the deadline starts anew with each pod that comes further."""
    name, now, before = new["metadata"]["name"], world.store.time(), found["status"]
    replicas, old = found["spec"]["replicas"], condition(conditions, "Progressing")
    whole = (
        status["updatedReplicas"] == status["replicas"] == status["availableReplicas"] == replicas
        and new["spec"]["replicas"] == replicas
    )
    if whole:
        said = ("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
        return with_condition(conditions, _condition("Progressing", *said), now, updates=True)
    done = old is not None and old["reason"] == "NewReplicaSetAvailable" and f'"{name}"' in old["message"]
    further = old is None or any(
        status[field] > before.get(field, 0) for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    if done:
        return conditions  # only a rollout has a deadline, not a pod that is lost later
    if old is None or f'"{name}"' not in old["message"]:
        reason = "NewReplicaSetCreated" if old is None else "ReplicaSetUpdated"
        word = "Created new replica set" if old is None else "ReplicaSet"
        message = f'{word} "{name}"' + ("" if old is None else " is progressing.")
        rest = [one for one in conditions if one["type"] != "Progressing"]
        return with_condition(rest, _condition("Progressing", "True", reason, message), now, updates=True)
    if further:
        message = f'ReplicaSet "{name}" is progressing.'
        rest = [one for one in conditions if one["type"] != "Progressing"]
        stamped = _condition("Progressing", "True", "ReplicaSetUpdated", message)
        return with_condition(rest, stamped, now, updates=True)
    if world.store.since(old["lastUpdateTime"]) > found["spec"]["progressDeadlineSeconds"]:
        said = ("False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.')
        return with_condition(conditions, _condition("Progressing", *said), now, updates=True)
    return conditions


def _clean(world: World, found: Thing, new: Thing | None) -> None:
    """Old ReplicaSets beyond the history that is kept."""
    if new is None:
        return
    empty = [
        one
        for one in world.owned(kinds.REPLICA_SET, found)
        if one["metadata"]["uid"] != new["metadata"]["uid"]
        and not one["spec"]["replicas"]
        and not one["status"].get("replicas")
        and not [pod for pod in world.owned(kinds.POD, one) if active(pod)]
    ]
    keep = found["spec"].get("revisionHistoryLimit", 10)
    for one in sorted(empty, key=_revision)[: max(0, len(empty) - keep)]:
        world.api.delete(kinds.REPLICA_SET, one["metadata"]["namespace"], one["metadata"]["name"])
