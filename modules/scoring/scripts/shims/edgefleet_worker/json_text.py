"""What ``run()`` returns as JSON: NumPy's and pandas' values, dates, ``toJSON()``; NaN as null."""

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
    _OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS


def encode(value: Any) -> bytes:
    """The JSON text of a value.

    Raises:
        TypeError: JSON has no form for it; says what to return instead.
    """
    if orjson is not None:
        try:
            return orjson.dumps(value, default=_plain, option=_OPTIONS)
        except TypeError:
            pass  # integers beyond 64 bits and lone surrogates, which the standard library writes
    try:
        return json.dumps(value, default=_plain, allow_nan=False).encode()
    except ValueError:  # NaN, or a circle, which fails again
        return json.dumps(_finite(json.loads(json.dumps(value, default=_plain))), allow_nan=False).encode()


def _plain(value: Any) -> Any:
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
    for method in ("tolist", "item", "isoformat"):
        if callable(convert := getattr(value, method, None)):
            return convert()
    if isinstance(value, dict):
        return dict(value.items())
    for kind in (str, int):
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


def _finite(value: Any) -> Any:
    """NaN and infinities as null: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return {key: _finite(one) for key, one in value.items()} if isinstance(value, dict) else value
