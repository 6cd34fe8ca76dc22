"""The three patches that are no apply: JSON patch, merge patch, strategic merge patch."""

from typing import Any

from tests.doubles.kubernetes.copies import copied
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import Refused, bad_request
from tests.doubles.kubernetes.schema import Shape, shape_of

JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
MEDIA_TYPES = [JSON, MERGE, STRATEGIC, APPLY]


def patched(kind: Kind, how: str, old: dict[str, Any], body: Any) -> dict[str, Any]:
    if how == JSON:
        if not isinstance(body, list):
            raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
        new = copied(old)
        for operation in body:
            _operate(new, operation)
        return new
    if not isinstance(body, dict):
        raise bad_request("json: cannot unmarshal array into Go value of type map[string]interface {}")
    return _merge(old, body) if how == MERGE else _strategic(shape_of(kind), old, body)


def _merge(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copied(patch)
    new = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = _merge(new.get(key), value)
    return new


def _strategic(shape: Shape, old: Any, patch: Any) -> Any:
    """Maps are merged, and lists that have a merge key; ``$patch`` says replace or delete."""
    if isinstance(patch, dict):
        patch = dict(patch)
        if patch.pop("$patch", "") == "replace" or not isinstance(old, dict):
            return {key: value for key, value in patch.items() if value is not None}
        new = dict(old)
        for key, value in patch.items():
            inner = shape.field(key)
            if value is None:
                new.pop(key, None)
            elif key.startswith("$"):
                continue
            else:
                new[key] = copied(value) if inner is None else _strategic(inner, new.get(key), value)
        return new
    if isinstance(patch, list) and isinstance(old, list) and shape.is_list:
        if shape.schema.get("x-kubernetes-patch-strategy", "") == "":
            return copied(patch)
        return _list(shape, old, patch)
    return copied(patch)


def _list(shape: Shape, old: list[Any], patch: list[Any]) -> list[Any]:
    key = shape.schema.get("x-kubernetes-patch-merge-key")
    if key is None:
        return [*old, *(one for one in patch if one not in old)]
    if any(one.get("$patch") == "replace" and key not in one for one in patch):
        return [one for one in patch if key in one]
    new = [copied(one) for one in old]
    for one in patch:
        place = next((number for number, have in enumerate(new) if have.get(key) == one.get(key)), None)
        if one.get("$patch") == "delete":
            new = [have for have in new if have.get(key) != one.get(key)]
        elif place is None:
            new.append(copied(one))
        else:
            new[place] = _strategic(shape.item(), new[place], one)
    return new


def _operate(thing: Any, operation: dict[str, Any]) -> None:
    """RFC 6902; the last step of the path is where something is put, replaced, removed or compared."""
    path = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    word, here = operation["op"], thing
    try:
        for part in path[:-1]:
            here = here[int(part)] if isinstance(here, list) else here[part]
        last: Any = path[-1]
        if isinstance(here, list):
            last = len(here) if last == "-" else int(last)
        if word == "add" and isinstance(here, list):
            here.insert(last, copied(operation["value"]))
        elif word == "add":
            here[last] = copied(operation["value"])
        elif word == "replace":
            here[last]
            here[last] = copied(operation["value"])
        elif word == "remove":
            del here[last]
        elif word == "test" and here[last] != operation["value"]:
            raise _unprocessable()
    except (KeyError, IndexError, ValueError, TypeError) as why:
        raise _unprocessable() from why


def _unprocessable() -> Refused:
    """The real server does not say what is wrong with a JSON patch, either."""
    return Refused(422, "Invalid", "the server rejected our request due to an error in our request", {})
