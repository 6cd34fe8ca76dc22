"""Every document has an end: no number, text, list or map in it without a bound."""

import importlib
import pkgutil
import re

import msgspec
import pytest
from msgspec import inspect

from modules import manifest, protocol, samples, signing
from modules.names import DeviceField

LONGEST_NAME = 1000


def documents():
    """Every Struct of the wire, and those that are signed or stand in a module."""
    wire = [importlib.import_module(one.name) for one in pkgutil.iter_modules(protocol.__path__, "modules.protocol.")]
    return [
        value
        for place in (manifest, samples, signing, *wire)
        for value in vars(place).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == place.__name__
    ]


def unbounded(kind, where):
    """Each place in a type where a value may be as large as its sender likes."""
    if isinstance(kind, inspect.Metadata):
        return unbounded(kind.type, where)
    if isinstance(kind, inspect.BoolType | inspect.NoneType | inspect.LiteralType | inspect.EnumType):
        return []
    own = [] if has_bounds(kind) else [where]
    return own + [found for part, name in parts(kind, where) for found in unbounded(part, name)]


def has_bounds(kind):
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return {kind.ge, kind.gt} != {None} and {kind.le, kind.lt} != {None}
    if isinstance(kind, inspect.StrType):
        return kind.max_length is not None or ends(kind.pattern)
    if isinstance(kind, inspect.UnionType | inspect.StructType | inspect.TupleType):
        return True
    return getattr(kind, "max_length", None) is not None


def parts(kind, where):
    """The types inside a type, each with its name."""
    if isinstance(kind, inspect.StructType):
        return [(field.type, f"{kind.cls.__name__}.{field.name}") for field in kind.fields]
    inner = [getattr(kind, name, None) for name in ("key_type", "value_type", "item_type")]
    inner += [*getattr(kind, "types", ()), *getattr(kind, "item_types", ())]
    return [(part, where) for part in inner if part is not None]


def ends(pattern):
    """Whether a pattern reaches the end of the text and matches nothing longer than 1 000 characters."""
    if pattern is None or not (pattern.startswith("^") and pattern.endswith(r"\Z")):
        return False
    return re._parser.parse(pattern).getwidth()[1] < LONGEST_NAME


@pytest.mark.parametrize("document", documents(), ids=lambda one: one.__name__)
def test_every_field_is_bounded(document):
    """A field whose value could be as large as its sender likes is not on the wire."""
    assert unbounded(inspect.type_info(document), document.__name__) == []


class Loose(msgspec.Struct):
    number: int
    half: float | None
    text: str
    data: bytes
    items: tuple[bool, ...]
    names: dict[DeviceField, bool]
    any: msgspec.Raw


def test_the_walk_finds_what_has_no_bound():
    """The walk would find each kind of field without a bound."""
    found = unbounded(inspect.type_info(Loose), "Loose")

    assert found == [f"Loose.{name}" for name in Loose.__struct_fields__]
