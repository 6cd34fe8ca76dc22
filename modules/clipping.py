"""Brings what we say ourselves within the bounds of its document, whatever machine, engine or module it is from.

A reader refuses a document as a whole when one text in it is too long. So who writes one from what others told him cuts
texts and lists, and takes the nearest number, rather than be refused for ever.
"""

import functools
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

T = TypeVar("T", bound=msgspec.Struct)


def clipped(document: T) -> T:
    """The document with each value within its bounds; names and digests, which have a pattern, stay as they are."""
    values = {name: _value(getattr(document, name), kind) for name, kind in _fields(type(document)).items()}
    return type(document)(**values)


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, inspect.Type]:
    return {field.name: field.type for field in cast("inspect.StructType", inspect.type_info(kind)).fields}


def _value(value: Any, kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.UnionType):
        kind = next((one for one in kind.types if _is_of(value, one)), kind)
    if isinstance(value, msgspec.Struct):
        return clipped(value)
    if isinstance(kind, inspect.StrType):
        return value.encode(errors="replace").decode()[: kind.max_length]
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _number(value, kind)
    if isinstance(kind, inspect.VarTupleType):
        return tuple(_value(one, kind.item_type) for one in value[: kind.max_length])
    if isinstance(kind, inspect.TupleType):
        return tuple(_value(one, inner) for one, inner in zip(value, kind.item_types, strict=True))
    return value


def _is_of(value: Any, kind: inspect.Type) -> bool:
    """Whether a value is of this member of a union; of numbers and texts there is one in each of ours."""
    kinds: dict[type[inspect.Type], type] = {
        inspect.NoneType: type(None),
        inspect.StrType: str,
        inspect.FloatType: float,
        inspect.IntType: int,
    }
    if isinstance(kind, inspect.StructType):
        return isinstance(value, kind.cls)
    return type(kind) in kinds and isinstance(value, kinds[type(kind)])


def _number(value: Any, kind: inspect.IntType | inspect.FloatType) -> Any:
    low, high = kind.ge, kind.le
    if value != value:  # noqa: PLR0124 - only NaN is not itself
        return low
    if low is not None and value < low:
        return low
    return high if high is not None and value > high else value
