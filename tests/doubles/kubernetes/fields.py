"""Sets of fields, as ``managedFields`` holds them: who owns what, compared and merged as the real server does.

A path is a tuple of elements: ``("f", name)`` a field or key, ``("k", ((key, value), ...))`` an item of a list by its
merge keys, ``("v", json)`` an item of a set. The rules are those of structured-merge-diff, Kubernetes' own library.
"""

import json
from collections.abc import Iterator
from typing import Any

from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.schema import Shape, key_of

Element = tuple[str, Any]
Path = tuple[Element, ...]
Fields = frozenset[Path]


class NoKey(Exception):
    """An item of a list lacks what it is known by, or two are known by the same."""


def elements(shape: Shape, value: list[Any]) -> list[Element]:
    """What the items of a granular list are known by."""
    keys = shape.keys
    found: list[Element] = []
    for item in value:
        if not keys:
            found.append(("v", json.dumps(item)))
            continue
        key = key_of(item, keys) if isinstance(item, dict) else None
        if key is None:
            missing = next((one for one in keys if not isinstance(item, dict) or item.get(one) is None), keys[0])
            raise NoKey(
                f"element {len(found)}: associative list with keys has an element that omits key field "
                f'"{missing}" (and doesn\'t have default value)'
            )
        if ("k", key) in found:
            raise NoKey(f"duplicate entries for key {_shown(('k', key))}")
        found.append(("k", key))
    return found


def _children(shape: Shape, value: Any) -> Iterator[tuple[Element, Shape, Any]] | None:
    """The parts of a value that are owned apart; None for what is owned as a whole."""
    if shape.atomic or value is None:
        return None
    if shape.is_list:
        return zip(elements(shape, value), [shape.item()] * len(value), value, strict=True)
    return ((("f", name), inner, one) for name, one in value.items() if (inner := shape.field(name)) is not None)


def of_configuration(shape: Shape, value: Any, path: Path = ()) -> Iterator[Path]:
    """The fields of what somebody applies: leaves, items of lists, and what is empty."""
    children = _children(shape, value)
    if children is None or not value:
        if path:
            yield path
        return
    for element, inner, one in children:
        yield from of_configuration(inner, one, (*path, element))
        if element[0] != "f":
            yield (*path, element)


def difference(shape: Shape, old: Any, new: Any, path: Path = ()) -> Iterator[tuple[str, Path]]:
    """``added``, ``modified`` and ``removed`` fields, with their parents where these came or went."""
    if path and (old is None) != (new is None):
        yield ("added" if old is None else "removed"), path
    before, after = _children(shape, old), _children(shape, new)
    if before is None and after is None:
        if old is not None and new is not None and old != new:
            yield "modified", path
        return
    earlier = {element: one for element, _, one in before or ()}
    later = {element: (inner, one) for element, inner, one in after or ()}
    shapes = {element: inner for element, inner, _ in _children(shape, old) or ()} | {
        element: inner for element, (inner, _) in later.items()
    }
    for element, inner in shapes.items():
        yield from difference(inner, earlier.get(element), later.get(element, (None, None))[1], (*path, element))


def with_parents(shape: Shape, fields: Fields) -> Fields:
    """With the structs that lead to them, so that an optional struct goes when nobody owns anything in it."""
    found = set(fields)
    for path in fields:
        here: Shape | None = shape
        for depth, element in enumerate(path):
            if here is None:
                break
            if element[0] == "f" and element[1] in here.fields:
                found.add(path[: depth + 1])
            here = here.field(element[1]) if element[0] == "f" else here.item()
    return frozenset(found)


def without(shape: Shape, value: Any, fields: Fields) -> Any:
    """The value without these fields; what becomes empty by it goes, too."""
    if shape.atomic or not value:
        return value
    beneath: dict[Element, set[Path]] = {}
    for path in fields:
        beneath.setdefault(path[0], set()).add(path[1:])
    kept: list[tuple[Element, Any]] = []
    for element, inner, one in _children(shape, value) or ():
        gone = beneath.get(element, set())
        if () not in gone:
            kept.append((element, without(inner, one, frozenset(gone)) if gone else one))
    unknown = {} if shape.is_list else {name: one for name, one in value.items() if shape.field(name) is None}
    if shape.is_list:
        return [one for _, one in kept] or None
    return {element[1]: one for element, one in kept if one is not None} | unknown or None


def merged(shape: Shape, live: Any, wanted: Any) -> Any:
    """What is live with what is wanted put over it; items of lists are found by their keys."""
    if shape.atomic or live is None or wanted is None:
        return copied(live if wanted is None else wanted)
    if not shape.is_list:
        return {
            name: merged(inner, live.get(name), wanted.get(name))
            if (inner := shape.field(name)) is not None
            else copied(wanted.get(name, live.get(name)))
            for name in [*live, *(name for name in wanted if name not in live)]
        }
    old = dict(zip(elements(shape, live), live, strict=True))
    new = dict(zip(elements(shape, wanted), wanted, strict=True))
    order = [*new]
    for number, element in enumerate(old):  # what only others want keeps its place behind its neighbour
        if element not in new:
            neighbour = next((one for one in reversed([*old][:number]) if one in order), None)
            order.insert(0 if neighbour is None else order.index(neighbour) + 1, element)
    return [merged(shape.item(), old.get(element), new.get(element)) for element in order]


def to_fields_v1(fields: Fields) -> dict[str, Any]:
    """As it is written in ``managedFields``."""
    written: dict[str, Any] = {}
    parents = {path[:depth] for path in fields for depth in range(1, len(path))}
    for path in sorted(fields, key=str):
        here = written
        for element in path:
            here = here.setdefault(_written(element), {})
        if path in parents:
            here["."] = {}
    return written


def from_fields_v1(written: dict[str, Any], path: Path = ()) -> Fields:
    found: set[Path] = set()
    for name, inner in written.items():
        if name == ".":
            found.add(path)
            continue
        kind, _, rest = name.partition(":")
        element = (kind, rest if kind != "k" else tuple(json.loads(rest).items()))
        found |= {(*path, element)} if not inner else from_fields_v1(inner, (*path, element))
    return frozenset(found)


def _written(element: Element) -> str:
    kind, value = element
    return f"k:{json.dumps(dict(value), separators=(',', ':'))}" if kind == "k" else f"{kind}:{value}"


def shown(path: Path) -> str:
    """As it stands in messages: ``.spec.template.spec.containers[name="x"].image``."""
    return "".join(f".{value}" if kind == "f" else _shown((kind, value)) for kind, value in path)


def _shown(element: Element) -> str:
    kind, value = element
    said = ",".join(f"{name}={json.dumps(one)}" for name, one in value) if kind == "k" else f"={value}"
    return f"[{said}]"
