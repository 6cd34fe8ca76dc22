"""What ``run()`` returns as JSON: NumPy's and pandas' values, dates, ``toJSON()``; NaN and what is missing as null."""

import dataclasses
import enum
import json
import math
import uuid
from collections.abc import Set as AbstractSet
from typing import Any

try:
    import orjson
except ImportError:  # the script's environment may go without: it is quicker, not needed
    orjson = None  # type: ignore[assignment]

if orjson is not None:
    # A subclass of dict may show other items than it stores, as werkzeug's do.
    _OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS
# pandas' own words for a missing value, whose isoformat() and comparisons are of no use.
_MISSING = frozenset({"NAType", "NaTType"})
_NUMBERS = frozenset("fiub")
_TIMES = {"M": "datetime64[us]", "m": "timedelta64[us]"}


def encode(value: Any) -> bytes:
    """The JSON text of a value.

    Raises:
        TypeError: JSON has no form for it; says what to return instead.
        ValueError: it contains itself.
    """
    if orjson is not None:
        try:
            return orjson.dumps(value, default=_quick, option=_OPTIONS)
        except TypeError:
            pass  # integers beyond 64 bits, lone surrogates, deep nesting: the standard library
    try:
        return json.dumps(value, default=_plain, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        pass  # NaN, NumPy's numbers as keys, what fails again: step by step
    try:
        return json.dumps(_tree(value), allow_nan=False).encode()
    except RecursionError:
        raise ValueError("run() returned a value that contains itself, or is nested too deeply for JSON") from None


def _quick(value: Any) -> Any:
    """As :func:`_plain`, but arrays of numbers are written without a Python object for each."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind in _NUMBERS and type(value).__name__ == "ndarray" and hasattr(orjson, "Fragment"):
        try:
            return orjson.Fragment(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
        except TypeError:
            pass  # not in C's order, or of a type that only NumPy knows
    return _plain(value)


def _plain(value: Any) -> Any:
    if type(value).__name__ in _MISSING:
        return None
    if all(hasattr(value, name) for name in ("columns", "collect", "toPandas")):
        # A frame of Spark: its own toJSON() is no text, but another distributed collection.
        return [row.asDict(recursive=True) for row in value.collect()]
    if callable(own := getattr(value, "toJSON", None)):
        return _parsed(own())
    if isinstance(value, enum.Enum | uuid.UUID):
        return value.value if isinstance(value, enum.Enum) else str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    return _of_a_package(value)


def _of_a_package(value: Any) -> Any:
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        return value.to_dict(orient="records")
    if type(value).__module__ == "numpy" and (unit := _TIMES.get(value.dtype.kind)):
        # In nanoseconds NumPy gives numbers, and the least of them where a date is missing.
        value = value.astype(unit)
    for method in ("tolist", "item", "isoformat"):
        if callable(convert := getattr(value, method, None)):
            found = convert()
            return float(found) if type(found) is type(value) else found
    if isinstance(value, dict):
        return dict(value.items())
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list | tuple | AbstractSet):
        return list(value)
    raise TypeError(f"run() returned a {type(value).__name__}, which JSON cannot hold; {_instead(value)}")


def _parsed(given: Any) -> Any:
    """``toJSON()`` may give a value or its text."""
    if isinstance(given, str):
        try:
            return json.loads(given)
        except ValueError:
            return given
    return given


def _instead(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "return AMLResponse(body, 200) for bytes"
    if hasattr(value, "__next__") or hasattr(value, "__anext__"):
        return "return AMLResponse(generator, 200) to stream"
    return "return lists, numbers or text"


def _tree(value: Any) -> Any:
    """A value in what JSON has: NaN and infinities are null, keys are text."""
    kind = type(value)
    if value is None or kind in {str, int, bool}:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind in {list, tuple}:
        return [_tree(one) for one in value]
    if kind is dict:
        return {_key(name): _tree(one) for name, one in value.items()}
    return _tree(_plain(value))


def _key(name: Any) -> str:
    found = _tree(name)
    if isinstance(found, list | dict):
        raise TypeError(f"run() returned a dictionary with a {type(name).__name__} as key; use text")
    return found if isinstance(found, str) else json.dumps(found)
