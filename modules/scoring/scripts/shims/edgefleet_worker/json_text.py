"""What ``run()`` returns as JSON: NumPy's and pandas' values, dates, ``toJSON()``; NaN and what is missing as null."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections import UserString
from collections.abc import Collection, Mapping
from typing import Any

try:
    import orjson
except ImportError:  # the script's environment may go without: it is quicker, not needed
    orjson = None  # type: ignore[assignment]

if orjson is not None:
    # A subclass of dict may show other items than it stores, as werkzeug's do; of a dataclass it would leave out what
    # begins with an underscore; and of two keys that become one text it would write both.
    _OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
# pandas' own words for a missing value, whose isoformat() and comparisons are of no use.
_MISSING = frozenset({"NAType", "NaTType"})
_NUMBERS = frozenset("fiub")
# More are of no use to JSON's readers, and Python writes none.
_DIGITS = 4000
_TIMES = {"M": "datetime64[us]", "m": "timedelta64[us]"}
# NumPy's units above microseconds.
_COARSE = frozenset({"Y", "M", "W", "D", "h", "m", "s", "ms"})
# Values of pandas that have no form but their text: "2021-02", "(0, 1]".
_TEXTS = frozenset({"Interval", "Period"})
_BYTES = bytes | bytearray | memoryview


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
            pass  # integers beyond 64 bits, lone surrogates, keys that are no text, deep nesting: step by step
    try:
        return json.dumps(_tree(value), allow_nan=False).encode()
    except RecursionError:
        pass  # deeper than we go step by step
    try:
        return _written(value)
    except (ValueError, RecursionError):
        raise ValueError("run() returned a value that contains itself, or is nested too deeply for JSON") from None


def _written(value: Any) -> bytes:
    return json.dumps(value, default=_plain, allow_nan=False).encode()


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
    if isinstance(value, decimal.Decimal):
        return _of_decimal(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump()  # pydantic's
    return _of_a_package(value)


def _of_decimal(value: decimal.Decimal) -> Any:
    if value.is_nan():
        return None
    if value.is_finite() and value.adjusted() >= _DIGITS:
        raise TypeError(f"run() returned a number of more than {_DIGITS} digits; return text")
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)


def _of_a_package(value: Any) -> Any:
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        if len(set(value.columns)) < len(value.columns):
            raise TypeError("run() returned a DataFrame with two columns of one name; give each a name of its own")
        return value.to_dict(orient="records")
    if type(value).__module__.startswith("numpy"):
        return _of_numpy(value)
    if type(value).__name__ in _TEXTS:
        return str(value)
    for method in ("tolist", "item", "isoformat"):
        if callable(convert := getattr(value, method, None)) and not isinstance(value, _BYTES):
            return convert()
    return _of_python(value)


def _of_numpy(value: Any) -> Any:
    """Arrays and numbers; records field by field, since NumPy's own lists have dates in nanoseconds as numbers."""
    kind = value.dtype.kind
    if value.dtype.names:
        return list(value) if value.ndim else [value[name] for name in value.dtype.names]
    times = value.astype(_TIMES[kind]) if kind in _TIMES else value
    # What is too large for microseconds NumPy turns into some other time.
    turned = (
        kind in _TIMES
        and value.dtype.str[4:-1].lstrip("0123456789") in _COARSE
        and bool(
            ((times.astype(value.dtype) != value) & (value == value)).any()  # noqa: PLR0124 - NaT is not itself
        )
    )
    if turned and kind == "m":
        raise TypeError("run() returned a duration of more than 292 thousand years; return a number")
    found = times.tolist()
    if kind == "M" and (turned or not _dates(found)):
        # Of years that Python's dates do not have NumPy gives numbers.
        texts: Any = value.astype(str)
        if not value.ndim:
            return str(texts)
        texts = texts.astype(object)
        texts[value != value] = None  # noqa: PLR0124 - NaT, as NaN, is not itself
        return texts.tolist()
    return float(found) if type(found) is type(value) else found


def _dates(found: Any) -> bool:
    return all(map(_dates, found)) if isinstance(found, list) else not isinstance(found, int)


def _of_python(value: Any) -> Any:
    """The standard library's own kinds of values, and classes that were made of them."""
    if isinstance(value, dt.timedelta):
        # As pandas' own isoformat() writes one.
        minutes, seconds = divmod(value.seconds, 60)
        fraction = f".{value.microseconds:06}".rstrip("0").rstrip(".")
        return f"P{value.days}DT{minutes // 60}H{minutes % 60}M{seconds}{fraction}S"
    if isinstance(value, Mapping):
        return dict(value.items())
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, UserString):
        return str(value)
    if isinstance(value, Collection) and not isinstance(value, _BYTES):
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
        found = {_key(name): _tree(one) for name, one in value.items()}
        if len(found) < len(value):
            raise TypeError("run() returned a dictionary of which two keys become the same text; use text")
        return found
    return _tree(_plain(value))


def _key(name: Any) -> str:
    found = _tree(name)
    if isinstance(found, list | dict):
        raise TypeError(f"run() returned a dictionary with a {type(name).__name__} as key; use text")
    return found if isinstance(found, str) else json.dumps(found)
