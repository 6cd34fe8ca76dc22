"""Who owns which field: ``managedFields`` after an apply and after every other write, and conflicts over them."""

from typing import Any

import msgspec

from tests.doubles.kubernetes import fields as f
from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.fields import Fields, NoKey
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import Refused, apply_conflict
from tests.doubles.kubernetes.schema import not_typed, shape_of

# What nobody owns: the server's own, and what names the object.
_NOBODYS = {"apiVersion", "kind"}
_NOBODYS_METADATA = {
    *("name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "generateName"),
}


class Writer(msgspec.Struct, frozen=True):
    """Who writes: a manager owns apart what it applies, what it updates, and what it writes to each subresource."""

    manager: str
    operation: str = "Update"
    subresource: str = ""


Owners = dict[Writer, Fields]


def owners(live: dict[str, Any] | None) -> Owners:
    entries = (live or {}).get("metadata", {}).get("managedFields", [])
    return {
        Writer(entry["manager"], entry["operation"], entry.get("subresource", "")): f.from_fields_v1(entry["fieldsV1"])
        for entry in entries
    }


def _owned(fields: Fields, subresource: str) -> Fields:
    """Without what nobody owns, and what this resource or subresource does not write."""

    def counts(path: f.Path) -> bool:
        names = [element[1] for element in path[:2]]
        if names[0] in _NOBODYS or path == (("f", "metadata"),):
            return False
        if names[0] == "metadata":
            return names[1] not in _NOBODYS_METADATA
        return (names[0] == "status") == (subresource == "status")

    return frozenset(path for path in fields if counts(path))


def applied(
    kind: Kind, live: dict[str, Any] | None, wanted: dict[str, Any], writer: Writer, *, force: bool
) -> tuple[dict[str, Any], Owners]:
    """The object after an apply, and who owns what then; refused with a conflict unless forced."""
    shape, before = shape_of(kind), owners(live)
    live = bare(live)
    try:
        configured = _owned(frozenset(f.of_configuration(shape, wanted)), writer.subresource)
        new = f.merged(shape, live, wanted)
        last = before.get(writer, frozenset())
        now = before | {writer: configured}
        if last:
            new = _pruned(shape, new, last, now)
    except NoKey as why:
        raise not_typed(kind, wanted, str(why), wanted.get("metadata", {}).get("name", "")) from None
    changes = _changes(shape, live, new)
    fought: Owners = {}
    for other, owned in now.items():
        if other != writer and (both := owned & (changes["added"] | changes["modified"])):
            fought[other] = both
    if fought and not force:
        raise conflicts(kind, fought)
    for other in [*now]:
        if other != writer:
            now[other] = now[other] - fought.get(other, frozenset()) - changes["removed"]
    return new, {one: owned for one, owned in now.items() if owned}


def _pruned(shape: Any, new: dict[str, Any], last: Fields, now: Owners) -> dict[str, Any]:
    """Without what its writer applied last time, does not any more, and nobody else owns."""

    def wide(fields: Fields) -> Fields:
        return f.with_parents(shape, fields)

    def having(value: Any) -> Fields:
        return wide(frozenset(f.of_configuration(shape, value)))

    whole, dropped = having(new), wide(last)
    pruned = f.without(shape, new, dropped) or {}
    owned = wide(frozenset().union(*now.values()))
    pruned = f.without(shape, new, whole - having(pruned) - owned) or {}
    return f.without(shape, new, (whole - having(pruned)) & dropped) or {}


def updated(kind: Kind, live: dict[str, Any] | None, new: dict[str, Any], writer: Writer) -> Owners:
    """Who owns what after a create, replace or patch: the writer what it changed, and others no longer."""
    changes = _changes(shape_of(kind), bare(live), bare(new))
    changed = _owned(changes["added"] | changes["modified"], writer.subresource)
    now = owners(live)
    for other in [*now]:
        if other != writer:
            now[other] = now[other] - changes["modified"] - changes["added"] - changes["removed"]
    now[writer] = (now.get(writer, frozenset()) | changed) - changes["removed"]
    return {one: owned for one, owned in now.items() if owned}


def entries(kind: Kind, now: Owners, live: dict[str, Any] | None, at: str) -> list[dict[str, Any]]:
    """``managedFields``; who owns the same as before keeps the time."""
    before = owners(live)
    times = {
        Writer(one["manager"], one["operation"], one.get("subresource", "")): one.get("time")
        for one in (live or {}).get("metadata", {}).get("managedFields", [])
    }
    listed = []
    for writer, owned in now.items():
        entry = {
            "manager": writer.manager,
            "operation": writer.operation,
            "apiVersion": kind.api_version,
            "time": times[writer] if before.get(writer) == owned else at,
            "fieldsType": "FieldsV1",
            "fieldsV1": f.to_fields_v1(owned),
        }
        listed.append(entry | ({"subresource": writer.subresource} if writer.subresource else {}))
    return sorted(listed, key=lambda one: (one["operation"], one["time"], one["manager"], one.get("subresource", "")))


def bare(thing: dict[str, Any] | None) -> dict[str, Any]:
    """Without its managed fields: what is compared."""
    found = copied(thing or {})
    found.get("metadata", {}).pop("managedFields", None)
    return found


def _changes(shape: Any, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Fields]:
    found: dict[str, set[f.Path]] = {"added": set(), "modified": set(), "removed": set()}
    for how, path in f.difference(shape, old, new):
        found[how].add(path)
    return {how: frozenset(paths) for how, paths in found.items()}


def conflicts(kind: Kind, fought: Owners) -> Refused:
    """With the message and causes of the real server."""
    causes, said, count = [], {}, 0
    for writer in sorted(fought, key=lambda one: (one.manager, one.operation, one.subresource)):
        who = f'"{writer.manager}"' + (f' with subresource "{writer.subresource}"' if writer.subresource else "")
        who += f" using {kind.api_version}" if writer.operation == "Update" else ""
        for path in sorted(fought[writer], key=str):
            causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": f.shown(path)})
            said.setdefault(who, []).append(f.shown(path))
            count += 1
    if count == 1:
        ((who, paths),) = said.items()
        return apply_conflict(f"Apply failed with 1 conflict: conflict with {who}: {paths[0]}", causes)
    parts = [f"conflicts with {who}:" + "".join(f"\n- {path}" for path in paths) for who, paths in said.items()]
    return apply_conflict(f"Apply failed with {count} conflicts: " + "\n".join(parts), causes)
