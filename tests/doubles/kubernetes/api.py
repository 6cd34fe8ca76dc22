"""Writes, as the API server does them: read strictly, defaulted, validated, admitted, owned, kept under a version."""

import json
import secrets
import string
import uuid
from typing import Any

from tests.doubles.kubernetes import kinds, managed, patches, refusals
from tests.doubles.kubernetes.admission import admit
from tests.doubles.kubernetes.allocations import give
from tests.doubles.kubernetes.bodies import expect, placed
from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.defaults import fill
from tests.doubles.kubernetes.deletion import delete
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.managed import Owners, Writer
from tests.doubles.kubernetes.normal import normal
from tests.doubles.kubernetes.refusals import Refused, bad_request, invalid
from tests.doubles.kubernetes.rules import objections, undecodable
from tests.doubles.kubernetes.schema import check_configuration, check_types, shape_of, without_nulls
from tests.doubles.kubernetes.store import Store

_SERVERS = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
)
# Kinds whose generation counts changes of what is wanted; the others have none.
_GENERATIONS = {
    *(kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.JOB, kinds.POD, kinds.BUDGET, kinds.NETWORK_POLICY, kinds.INGRESS),
    kinds.ENDPOINT_SLICE,
    kinds.HTTP_ROUTE,
}
# Kinds that are replaced only by somebody who says which version he has seen.
_CONDITIONAL = {kinds.BUDGET, kinds.LEASE}
# What a status has before anybody has looked.
_FIRST_STATUS: dict[Kind, dict[str, Any]] = {
    kinds.POD: {"phase": "Pending"},
    kinds.REPLICA_SET: {"replicas": 0},
    kinds.AUTOSCALER: {"desiredReplicas": 0},
    kinds.BUDGET: dict.fromkeys(("currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"), 0),
}
# Random parts of names have no vowels, so that they spell nothing.
_LETTERS = "".join(one for one in string.ascii_lowercase + string.digits if one not in "aeiou013l")
MOST_BODY = 3 * 1024 * 1024
MOST_KEPT = 1536 * 1024


def suffix(length: int = 5) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


class Api:
    """Used by requests and by the simulated controllers alike."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.quotas: dict[str, int] = {}

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        thing = self.store.get(kind, namespace, name)
        if thing is None:
            raise refusals.not_found(kind, name)
        return thing

    def create(
        self, kind: Kind, namespace: str, body: dict[str, Any], writer: Writer, *, dry: bool = False
    ) -> dict[str, Any]:
        with self.store.lock:
            expect(kind, body)
            check_types(kind, body)
            thing = placed(kind, namespace, without_nulls(copied(body)))
            metadata = thing["metadata"]
            if "generateName" in metadata and not metadata.get("name"):
                metadata["name"] = metadata["generateName"][:58] + suffix()
            if metadata.pop("resourceVersion", ""):
                raise refusals.failed("resourceVersion should not be set on objects to be created")
            if self.store.get(kind, namespace, metadata.get("name", "")) is not None:
                self._see_namespace(kind, namespace)
                raise refusals.already_exists(kind, metadata["name"])
            thing = self._finished(kind, self._born(kind, thing), None)
            owners = managed.updated(kind, None, thing, writer)
            return self._keep(kind, thing, None, owners, dry=dry)

    def replace(
        self, kind: Kind, namespace: str, name: str, body: dict[str, Any], writer: Writer, *, dry: bool = False
    ) -> dict[str, Any]:
        with self.store.lock:
            expect(kind, body)
            check_types(kind, body)
            old = self.get(kind, namespace, name)
            thing = placed(kind, namespace, without_nulls(copied(body)), name)
            if kind in _CONDITIONAL and not thing["metadata"].get("resourceVersion"):
                cause = refusals.Cause(
                    "FieldValueInvalid",
                    "metadata.resourceVersion",
                    "Invalid value: 0x0: must be specified for an update",
                )
                raise invalid(kind, name, [cause])
            return self._change(kind, old, thing, writer, dry=dry)

    def patch(
        self, kind: Kind, namespace: str, name: str, how: str, body: Any, writer: Writer, *, dry: bool = False
    ) -> dict[str, Any]:
        """JSON patch, merge patch or strategic merge patch."""
        with self.store.lock:
            old = self.get(kind, namespace, name)
            thing = patches.patched(kind, how, old, body)
            expect(kind, thing)
            check_types(kind, thing)
            if thing["metadata"].get("name") != name:
                cause = refusals.wrong("metadata.name", thing["metadata"].get("name", ""), "field is immutable")
                raise invalid(kind, name, [cause])
            return self._change(kind, old, without_nulls(thing), writer, dry=dry)

    def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: dict[str, Any],
        writer: Writer,
        *,
        force: bool,
        dry: bool = False,
    ) -> tuple[dict[str, Any], bool]:
        """The object, and whether it is new."""
        with self.store.lock:
            if "apiVersion" not in body or "kind" not in body:
                raise bad_request(f"Object 'Kind' is missing in '{json.dumps(body)}'")
            expect(kind, body)
            check_configuration(kind, body, name)
            wanted = placed(kind, namespace, without_nulls(copied(body)), name)
            if "managedFields" in wanted["metadata"]:
                raise bad_request("metadata.managedFields must be nil")
            live = self.store.get(kind, namespace, name)
            self._see_preconditions(kind, name, wanted, live)
            for field in ("resourceVersion", "uid", "creationTimestamp", "generation"):
                wanted["metadata"].pop(field, None)
            new, owners = managed.applied(kind, live, wanted, writer, force=force)
            if live is None:
                thing = self._finished(kind, self._born(kind, new), None)
            else:
                thing = self._changed(kind, live, new, writer)
            return self._keep(kind, thing, live, owners, dry=dry), live is None

    def delete(
        self, kind: Kind, namespace: str, name: str, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], bool]:
        """What is answered, and whether the object has gone."""
        with self.store.lock:
            return delete(self.store, kind, self.get(kind, namespace, name), options or {})

    def write_status(self, kind: Kind, thing: dict[str, Any], status: dict[str, Any], manager: str) -> dict[str, Any]:
        """For the simulated controllers: whatever the version is."""
        with self.store.lock:
            old = self.store.get(kind, thing["metadata"].get("namespace", ""), thing["metadata"]["name"])
            shown = shape_of(kind).field("status")
            if old is None or (shown and normal(shown, status) == old.get("status")):
                return old or thing
            new = copied(old) | {"status": status}
            return self._change(kind, old, new, Writer(manager, "Update", "status"), dry=False)

    def _change(
        self, kind: Kind, old: dict[str, Any], thing: dict[str, Any], writer: Writer, *, dry: bool
    ) -> dict[str, Any]:
        self._see_preconditions(kind, old["metadata"]["name"], thing, old)
        new = self._changed(kind, old, thing, writer)
        return self._keep(kind, new, old, managed.updated(kind, old, new, writer), dry=dry)

    def _changed(self, kind: Kind, old: dict[str, Any], thing: dict[str, Any], writer: Writer) -> dict[str, Any]:
        """What an update makes of the old object; a subresource writes its own part only."""
        if writer.subresource == "status":
            new = copied(old) | ({"status": thing["status"]} if "status" in thing else {})
        else:
            new = thing
            if "status" in kind.subresources:
                new.pop("status", None)
                new |= {"status": old["status"]} if "status" in old else {}
        metadata = new.setdefault("metadata", {})
        for field in _SERVERS:
            metadata.pop(field, None)
            if field in old["metadata"]:
                metadata[field] = copied(old["metadata"][field])
        new = self._finished(kind, new, old)
        if kind in _GENERATIONS and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"].get("generation", 1) + 1
        return new

    def _born(self, kind: Kind, thing: dict[str, Any]) -> dict[str, Any]:
        metadata = thing["metadata"]
        for field in (*_SERVERS, "resourceVersion", "selfLink"):
            metadata.pop(field, None)
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": self.store.time()}
        if kind in _GENERATIONS:
            metadata["generation"] = 1
        if "status" in kind.subresources and kind is not kinds.NODE:
            thing["status"] = dict(_FIRST_STATUS.get(kind, {}))
        return thing

    def _finished(self, kind: Kind, thing: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
        """Defaulted, given what the server gives, validated and admitted."""
        if (why := undecodable(kind, thing)) is not None:
            raise bad_request(f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {why}')
        thing = {"apiVersion": kind.api_version, "kind": kind.name} | normal(shape_of(kind), thing)
        fill(kind, thing)
        thing = normal(shape_of(kind), thing)
        name, namespace = thing["metadata"].get("name", ""), thing["metadata"].get("namespace", "")
        if old is None:
            self._see_namespace(kind, namespace)
            admit(self.store, kind, thing, self.quotas)
        causes = give(self.store, kind, thing, old) or objections(kind, thing, old)
        if causes:
            raise invalid(kind, name, causes)
        return thing

    def _keep(
        self, kind: Kind, thing: dict[str, Any], old: dict[str, Any] | None, owners: Owners, *, dry: bool
    ) -> dict[str, Any]:
        """An update that changes nothing is none: it keeps its version, and nobody is told."""
        entries = managed.entries(kind, owners, old, self.store.time())
        thing["metadata"]["managedFields"] = entries
        if len(json.dumps(thing)) > MOST_KEPT:
            raise refusals.failed("etcdserver: request is too large")
        if old is not None:
            version = old["metadata"]["resourceVersion"]
            thing["metadata"]["resourceVersion"] = version
            if thing == old:
                return old
        if dry:
            return thing
        if old is not None and thing["metadata"].get("deletionTimestamp") and not _held(kind, thing):
            self.store.remove(kind, thing)
            return thing
        return self.store.put(kind, thing)

    def _see_preconditions(self, kind: Kind, name: str, thing: dict[str, Any], old: dict[str, Any] | None) -> None:
        given, have = thing.get("metadata", {}), (old or {}).get("metadata", {})
        if given.get("uid", have.get("uid")) != have.get("uid"):
            if old is None:
                why = (
                    f"uid mismatch: the provided object specified uid {given['uid']}, and no existing object was found"
                )
            else:
                why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {have['uid']}"
            raise refusals.conflict(kind, name, why)
        if given.get("resourceVersion") and old is not None and given["resourceVersion"] != have["resourceVersion"]:
            raise refusals.modified(kind, name)

    def _see_namespace(self, kind: Kind, namespace: str) -> None:
        if not kind.namespaced:
            return
        found = self.store.get(kinds.NAMESPACE, "", namespace)
        if found is None:
            raise refusals.not_found(kinds.NAMESPACE, namespace)
        if found["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            raise refusals.forbidden(kind, "", why, [cause])


def _held(kind: Kind, thing: dict[str, Any]) -> bool:
    """Whether something still keeps an object that is to be deleted."""
    if thing["metadata"].get("finalizers") or kind is kinds.POD:
        return True
    return kind is kinds.NAMESPACE and bool(thing["spec"].get("finalizers"))


__all__ = ["MOST_BODY", "Api", "Refused", "suffix"]
