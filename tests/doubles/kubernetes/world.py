"""What the simulated controllers share: the API, the images' behaviour, logs, and the events that they record."""

import hashlib
from collections.abc import Iterable
from typing import Any

from tests.doubles.kubernetes import kinds
from tests.doubles.kubernetes.api import Api
from tests.doubles.kubernetes.images import Images
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.logs import Logs
from tests.doubles.kubernetes.managed import Writer
from tests.doubles.kubernetes.store import Store

MANAGER = "kube-controller-manager"
KUBELET = "kubelet"
Thing = dict[str, Any]


class World:
    def __init__(self, api: Api, images: Images, logs: Logs) -> None:
        self.api = api
        self.store: Store = api.store
        self.images = images
        self.logs = logs
        # Bodies by kind, namespace and name, each with the version that it has become.
        self.written: dict[tuple[Kind, str, str], tuple[Thing, str]] = {}

    def event(self, about: Thing, reason: str, message: str, component: str, *, warns: bool = False) -> None:
        """The same one again is counted."""
        metadata, namespace = about["metadata"], about["metadata"].get("namespace", "default")
        said = f"{metadata['uid']}{reason}{message}"
        name = f"{metadata['name'][:200]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
        now = self.store.time()
        known = self.store.get(kinds.EVENT, namespace, name)
        if known is not None:
            known |= {"count": known["count"] + 1, "lastTimestamp": now}
            self.store.put(kinds.EVENT, known)
            return
        if (self.store.get(kinds.NAMESPACE, "", namespace) or {"metadata": {"deletionTimestamp": ""}})["metadata"].get(
            "deletionTimestamp"
        ) is not None:
            return
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "kind": about["kind"],
                "apiVersion": about["apiVersion"],
                "name": metadata["name"],
                "namespace": namespace,
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warns else "Normal",
            "source": {"component": component},
            "reportingComponent": component,
            "reportingInstance": "",
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
        }
        self.api.create(kinds.EVENT, namespace, body, Writer(component))

    def owned(self, kind: Kind, owner: Thing) -> list[Thing]:
        """What this object controls."""
        uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
        return self.store.all(kind, namespace, lambda one: (controller(one) or {}).get("uid") == uid)

    def status(self, kind: Kind, thing: Thing, status: Thing, manager: str = MANAGER) -> Thing:
        return self.api.write_status(kind, thing, status, manager)

    def write(self, kind: Kind, thing: Thing, manager: str = MANAGER, subresource: str = "") -> Thing:
        """An update by a controller, whatever the version is."""
        thing["metadata"].pop("resourceVersion", None)
        namespace, name = thing["metadata"].get("namespace", ""), thing["metadata"]["name"]
        return self.api.replace(kind, namespace, name, thing, Writer(manager, "Update", subresource))


def controller(thing: Thing) -> Thing | None:
    return next((one for one in thing["metadata"].get("ownerReferences", ()) if one.get("controller")), None)


def owner_reference(owner: Thing) -> Thing:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(conditions: Iterable[Thing], kind: str) -> Thing | None:
    return next((one for one in conditions if one["type"] == kind), None)


def with_condition(conditions: list[Thing], new: Thing, now: str, *, updates: bool = False) -> list[Thing]:
    """The list with this condition; its transition time moves only when its status does.

    ``updates`` is for kinds whose conditions have a time of their last update, too.
    """
    old = condition(conditions, new["type"])
    same = old is not None and old["status"] == new["status"]
    times = {"lastTransitionTime": old["lastTransitionTime"] if old is not None and same else now}
    if updates:
        unchanged = old is not None and same and old.get("reason") == new.get("reason")
        times["lastUpdateTime"] = old["lastUpdateTime"] if old is not None and unchanged else now
    return [one for one in conditions if one["type"] != new["type"]] + [new | times]


def active(pod: Thing) -> bool:
    return pod["metadata"].get("deletionTimestamp") is None and pod["status"].get("phase") not in {
        "Failed",
        "Succeeded",
    }


def ready(pod: Thing) -> bool:
    found = condition(pod["status"].get("conditions", ()), "Ready")
    return found is not None and found["status"] == "True"


def pod_from(template: Thing, owner: Thing, name: str = "", generate: str = "") -> Thing:
    metadata = template.get("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **({"name": name} if name else {}),
            **({"generateName": generate} if generate else {}),
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(metadata.get("labels", {})),
            "annotations": dict(metadata.get("annotations", {})),
            "ownerReferences": [owner_reference(owner)],
        },
        "spec": template["spec"],
    }
