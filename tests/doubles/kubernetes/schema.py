"""The official schemas: what an object may hold, and of what kind its lists and maps are."""

import functools
import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.doubles.kubernetes import gateway_api
from tests.doubles.kubernetes.kinds import Kind
from tests.doubles.kubernetes.refusals import Cause, Refused, bad_request, failed, required

VERSION = "v1.34.0"
# What is sent must be known to the oldest cluster that is supported, too.
OLDEST = "v1.30.0"
_ID = "urn:kubernetes"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
# Keys of list items that may be left out, since the schema of the real server has a default for them.
KEY_DEFAULTS = {"protocol": "TCP"}


@functools.cache
def definitions(version: str = VERSION) -> dict[str, Any]:
    path = files("kubernetes_validate") / "kubernetes-json-schema" / f"{version}-local-strict" / "_definitions.json"
    return json.loads(path.read_bytes())["$defs"] | gateway_api.DEFINITIONS


@functools.cache
def _validator(definition: str, version: str) -> Draft202012Validator:
    known = definitions(version)
    whole = Resource.from_contents({"$schema": Draft202012Validator.META_SCHEMA["$id"], "$defs": known})
    return Draft202012Validator({"$ref": f"{_ID}#/$defs/{definition}"}, registry=Registry().with_resource(_ID, whole))


class Shape:
    """A place in an object: ``struct`` has fields of its own, ``map`` any keys, ``list`` items; or it is a leaf."""

    __slots__ = ("name", "schema")

    def __init__(self, schema: dict[str, Any]) -> None:
        reference = schema.get("$ref", "")
        self.name = reference.rsplit("/", 1)[-1]
        self.schema = schema | definitions()[self.name] if reference else schema

    @property
    def fields(self) -> dict[str, Any]:
        return self.schema.get("properties", {})

    @property
    def is_struct(self) -> bool:
        return "properties" in self.schema

    @property
    def is_map(self) -> bool:
        return isinstance(self.schema.get("additionalProperties"), dict)

    @property
    def is_list(self) -> bool:
        return "items" in self.schema

    @property
    def atomic(self) -> bool:
        """Replaced as a whole, so that there is one owner; lists are atomic unless their schema says otherwise."""
        if self.is_list:
            return self.schema.get("x-kubernetes-list-type", "atomic") == "atomic"
        return self.schema.get("x-kubernetes-map-type") == "atomic" or not (self.is_struct or self.is_map)

    @property
    def keys(self) -> list[str]:
        return self.schema.get("x-kubernetes-list-map-keys", [])

    def field(self, name: str) -> "Shape | None":
        if name in self.fields:
            return _shape(self.name, name, self)
        if self.is_map:
            return Shape(self.schema["additionalProperties"])
        return None

    def item(self) -> "Shape":
        return Shape(self.schema["items"])


_SHAPES: dict[tuple[str, str], Shape] = {}


def _shape(owner: str, name: str, parent: Shape) -> Shape:
    if not owner:
        return Shape(parent.fields[name])
    if (owner, name) not in _SHAPES:
        _SHAPES[owner, name] = Shape(parent.fields[name])
    return _SHAPES[owner, name]


def shape_of(kind: Kind) -> Shape:
    return Shape({"$ref": f"#/$defs/{kind.definition}"})


def key_of(item: dict[str, Any], keys: list[str]) -> tuple[tuple[str, Any], ...] | None:
    """What an item of a list is known by; None where a key is missing."""
    found = [(key, item.get(key, KEY_DEFAULTS.get(key))) for key in keys]
    return None if any(value is None for _, value in found) else tuple(found)


def check_types(kind: Kind, body: dict[str, Any]) -> None:
    """Refuse what cannot be read at all: unknown fields and values of another type (as ``fieldValidation=Strict``)."""
    objections = list(_unreadable(kind, body))
    if objections:
        says = f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: '
        unknown = [f'unknown field "{_dotted(path)}"' for word, path, _ in objections if word == "unknown"]
        wrong = [
            f"json: cannot unmarshal at {_dotted(path)}: {why}" for word, path, why in objections if word == "type"
        ]
        raise bad_request(says + (wrong[0] if wrong else "strict decoding error: " + ", ".join(unknown)))


def check_configuration(kind: Kind, body: dict[str, Any], name: str) -> None:
    """The same for what is applied, of which the real server says it with other words and another code."""
    for word, path, why in _unreadable(kind, body):
        said = "field not declared in schema" if word == "unknown" else why
        raise not_typed(kind, body, f".{_dotted(path)}: {said}", name)


def not_typed(kind: Kind, body: dict[str, Any], why: str, name: str) -> Refused:
    said = f"{body.get('metadata', {}).get('namespace', '')}/{name}; {kind.group}/{kind.version}, Kind={kind.name}"
    return failed(f"failed to create typed patch object ({said}): {why}")


def lacking(kind: Kind, body: dict[str, Any]) -> list[Cause]:
    """Fields that must be there."""
    return [required(_dotted(path)) for word, path, _ in _objections(kind, body) if word == "required"]


def _unreadable(kind: Kind, body: dict[str, Any]) -> list[tuple[str, list[Any], str]]:
    """Values of a wrong type, and fields that one of the supported versions does not know."""
    found = [one for one in _objections(kind, body) if one[0] != "required"]
    return found or [one for one in _objections(kind, body, OLDEST) if one[0] == "unknown"]


def _objections(kind: Kind, body: dict[str, Any], version: str = VERSION) -> list[tuple[str, list[Any], str]]:
    found = []
    for error in _validator(kind.definition, version).iter_errors(without_nulls(body)):
        path = list(error.absolute_path)
        if error.validator == "additionalProperties":
            allowed = error.schema.get("properties", {})
            found += [("unknown", [*path, name], "") for name in error.instance if name not in allowed]
        elif error.validator == "required":
            found += [("required", [*path, name], "") for name in error.validator_value if name not in error.instance]
        else:
            found.append(("type", path, error.message))
    # An object without a required field is named by its nearest parent only once.
    return [one for number, one in enumerate(found) if one not in found[:number]]


def without_nulls(value: Any) -> Any:
    """JSON's null is a field that is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def _dotted(path: list[Any]) -> str:
    said = ""
    for part in path:
        said += f"[{part}]" if isinstance(part, int) else f".{part}" if said else str(part)
    return said
