"""A form of what a module takes, made from the OpenAPI document that it gives. Pure; the document is a stranger's."""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import Invalid
from modules.words import printable

JSON: Final = "application/json"
_FIELDS: Final = 40
_WORDS: Final = 200
_DEPTH: Final = 12
_VALUES: Final = 4096


class Field(NamedTuple):
    """One value to fill in: ``given`` is what stands there at first, as text for ``json``."""

    name: str
    kind: Literal["text", "number", "whole", "switch", "choice", "json"]
    about: str
    given: Any
    options: tuple[str, ...] = ()


class Form(NamedTuple):
    """``example`` is a whole body as text; ``kinds`` are other media types that are taken."""

    fields: tuple[Field, ...]
    example: str
    kinds: tuple[str, ...]


def read(document: bytes) -> Form:
    """The form of a document.

    Raises:
        Invalid: it is none, or does not say what ``/score`` takes.
    """
    try:
        whole = msgspec.json.decode(document)
        asked = next(one["post"] for path, one in whole["paths"].items() if path.endswith("/score") and "post" in one)
        content = asked["requestBody"]["content"]
        said = content.get(JSON, {})
        schema = _object(whole, said.get("schema", {}), 0)
        example = said.get("example", schema.get("example"))
        if example is None:
            example = _skeleton(whole, schema, [_VALUES], 0)
        kinds = tuple(printable(str(one), _WORDS) for one in content if one != JSON)[:_FIELDS]
        return Form(tuple(_fields(whole, schema, example)), json.dumps(example, indent=1, default=str), kinds)
    except (*UNREADABLE, KeyError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise Invalid(
            "its OpenAPI document does not say what /score takes", remedy="write JSON, or send a file"
        ) from error


def body(fields: tuple[Field, ...], values: Mapping[str, Any]) -> bytes:
    """What is sent, of what was filled in; empty fields are left out.

    Raises:
        Invalid: a field has no JSON in it.
    """
    found = {}
    for one in fields:
        value = values.get(one.name)
        if value is None or (value == "" and one.kind != "text"):
            continue
        if one.kind == "json":
            try:
                value = json.loads(value)
            except ValueError as error:
                raise Invalid(f"this is no JSON: {error}", element=one.name, remedy="correct it") from error
        found[one.name] = int(value) if one.kind == "whole" else value
    return json.dumps(found).encode()


def _object(whole: Any, schema: Any, depth: int) -> dict[str, Any]:
    """What a reference leads to; of several forms the first that has fields of its own."""
    if depth > _DEPTH or not isinstance(schema, dict):
        return {}
    if isinstance(there := schema.get("$ref"), str):
        found = whole
        for step in there.removeprefix("#/").split("/"):
            found = found[step]
        return _object(whole, found, depth + 1)
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return _object(whole, schema[several][0], depth + 1)
    return schema


def _fields(whole: Any, schema: dict[str, Any], example: Any) -> list[Field]:
    given = example if isinstance(example, dict) else {}
    found = []
    for name, one in list(schema.get("properties", {}).items())[:_FIELDS]:
        kind = _object(whole, one, 0)
        value = given.get(name, kind.get("default"))
        found.append(_field(str(name)[:_WORDS], kind, value))
    return found


def _field(name: str, schema: dict[str, Any], value: Any) -> Field:
    about, kind = printable(str(schema.get("description", "")), _WORDS), schema.get("type")
    if options := schema.get("enum"):
        words = tuple(str(one)[:_WORDS] for one in options[:_FIELDS] if isinstance(one, str))
        if len(words) == len(options):
            return Field(name, "choice", about, value if value in words else words[0], words)
    if kind == "string":
        return Field(name, "text", about, value if isinstance(value, str) else "")
    if kind == "boolean":
        return Field(name, "switch", about, value is True)
    if kind in {"number", "integer"}:
        given = value if isinstance(value, int | float) else 0
        return Field(name, "number" if kind == "number" else "whole", about, given)
    shape = _shape(schema)
    return Field(name, "json", about or (f"shape {shape}" if shape else ""), json.dumps(value, default=str))


def _shape(schema: dict[str, Any]) -> str:
    sizes, depth = [], 0
    while schema.get("type") == "array" and depth < _DEPTH:
        sizes.append(str(schema.get("minItems", "any")))
        schema, depth = schema.get("items") or {}, depth + 1
    return " x ".join(sizes)


def _skeleton(whole: Any, schema: Any, left: list[int], depth: int) -> Any:
    """Something of the form that is asked for, with so many values at most."""
    kind = _object(whole, schema, 0)
    left[0] -= 1
    if left[0] <= 0 or depth > _DEPTH:
        return None
    match kind.get("type"):
        case "object":
            names = list(kind.get("properties", {}).items())[:_FIELDS]
            return {str(name): _skeleton(whole, one, left, depth + 1) for name, one in names}
        case "array":
            count = kind.get("minItems", 1)
            count = min(count, _VALUES) if isinstance(count, int) else 1
            return [_skeleton(whole, kind.get("items", {}), left, depth + 1) for _ in range(count) if left[0] > 0]
        case "number" | "integer":
            return 0
        case "boolean":
            return False
        case "string":
            return ""
    return None
