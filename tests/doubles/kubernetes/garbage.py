"""The garbage collector and the namespace controller: what lost its owner goes, and what a namespace held."""

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.kubernetes.world import MANAGER, Thing, World

_ROOT = "kube-root-ca.crt"


def step(world: World) -> None:
    _collect(world)
    for namespace in world.store.all(kinds.NAMESPACE):
        if namespace["metadata"].get("deletionTimestamp"):
            _empty(world, namespace)
        else:
            _furnish(world, namespace["metadata"]["name"])


def _collect(world: World) -> None:
    everything = world.store.everything()
    living = {thing["metadata"]["uid"]: (kind, thing) for kind, thing in everything}
    for kind, thing in everything:
        references = thing["metadata"].get("ownerReferences", [])
        present = [one for one in references if one["uid"] in living]
        if references and not present:
            if not thing["metadata"].get("deletionTimestamp"):
                _delete(world, kind, thing, "Background")
            continue
        finalizers = {one["uid"]: living[one["uid"]][1]["metadata"].get("finalizers", ()) for one in present}
        if any("foregroundDeletion" in one for one in finalizers.values()):
            if not thing["metadata"].get("deletionTimestamp"):
                _delete(world, kind, thing, "Foreground" if _owns(everything, thing) else "Background")
        elif orphaned := {uid for uid, one in finalizers.items() if "orphan" in one}:
            del thing["metadata"]["ownerReferences"]
            if left := [one for one in references if one["uid"] not in orphaned]:
                thing["metadata"]["ownerReferences"] = left
            world.store.put(kind, thing)
    _release(world)


def _release(world: World) -> None:
    """What waited for those that it owns."""
    for kind, thing in world.store.everything(_waits):
        finalizers = thing["metadata"]["finalizers"]
        if not _owns(world.store.everything(), thing):
            left = [one for one in finalizers if one not in {"orphan", "foregroundDeletion"}]
            thing["metadata"]["finalizers"] = left
            if left:
                world.store.put(kind, thing)
            else:
                world.store.remove(kind, thing)


def _waits(thing: Thing) -> bool:
    finalizers = set(thing["metadata"].get("finalizers", ()))
    return bool(thing["metadata"].get("deletionTimestamp") and {"orphan", "foregroundDeletion"} & finalizers)


def _owns(everything: list[tuple[kinds.Kind, Thing]], owner: Thing) -> bool:
    uid = owner["metadata"]["uid"]
    return any(one["uid"] == uid for _, thing in everything for one in thing["metadata"].get("ownerReferences", ()))


def _delete(world: World, kind: kinds.Kind, thing: Thing, policy: str) -> None:
    metadata = thing["metadata"]
    if world.store.get(kind, metadata.get("namespace", ""), metadata["name"]) is not None:
        world.api.delete(kind, metadata.get("namespace", ""), metadata["name"], {"propagationPolicy": policy})


def _empty(world: World, namespace: Thing) -> None:
    name, left = namespace["metadata"]["name"], 0
    for kind, thing in world.store.everything():
        if kind.namespaced and thing["metadata"]["namespace"] == name:
            left += 1
            if not thing["metadata"].get("deletionTimestamp"):
                _delete(world, kind, thing, "Background")
    if not left:
        world.store.remove(kinds.NAMESPACE, namespace)


def _furnish(world: World, name: str) -> None:
    """What every namespace has, a moment after it was made."""
    if world.store.get(kinds.SERVICE_ACCOUNT, name, "default") is None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
        world.api.create(kinds.SERVICE_ACCOUNT, name, account, Writer(MANAGER))
    if world.store.get(kinds.CONFIG_MAP, name, _ROOT) is None:
        root = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _ROOT, "namespace": name}}
        world.api.create(
            kinds.CONFIG_MAP, name, root | {"data": {"ca.crt": "-----BEGIN CERTIFICATE-----\n"}}, Writer(MANAGER)
        )
