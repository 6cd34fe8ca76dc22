"""JSON to the arrays that a graph takes, and what it gives back to JSON.

Nothing is converted silently: a string is no number, a fraction is no integer, a number outside the type's range is an
error. Only what loses nothing is allowed: integers for floats, whole floats for integers, and null for a missing float
(it becomes NaN, as NaN becomes null in an answer).
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from modules.scoring.graphs import bfloat16
from modules.scoring.runtime import BadInput, Dimension, RunFailed, Tensor

Array = NDArray[Any]

_SAME: Final = "bfloat16 float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool string"
# ONNX Runtime's name of a type -> ours, which is NumPy's except for string and bfloat16.
DTYPES: Final = {f"tensor({name})": name for name in _SAME.split()} | {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}
NAMES: Final = frozenset(DTYPES.values())
_NUMBERS: Final = frozenset("iuf")
_LOWEST: Final = -(2.0**63)
_KINDS: Final = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}


def array(value: Any, tensor: Tensor, *, truths: bool = True) -> Array:
    """One nested list as the array that the input takes.

    ``truths``: there may be booleans in it, which NumPy would take for 1 and 0 among numbers.

    Raises:
        BadInput: it has another type or shape.
    """
    if isinstance(value, np.ndarray):
        found: Array = value
    else:
        try:
            found = np.array(value, dtype=object) if tensor.dtype == "string" else np.array(value)
        except ValueError as error:
            raise BadInput(
                "the lists are nested unevenly", element=tensor.name, remedy=f"send {shown(tensor)}"
            ) from error
    found = shaped(found, tensor)
    if tensor.dtype == "string":
        return _strings(found, tensor)
    if truths and found.dtype.kind in _NUMBERS and _holds_truth(value):
        raise BadInput(f"expected {shown(tensor)}, got booleans among numbers", element=tensor.name)
    if "int" in tensor.dtype and found.dtype.kind == "f":
        return _whole(value, tensor).reshape(found.shape)
    return _numbers(found, tensor)


def shaped(found: Array, tensor: Tensor) -> Array:
    """The array in the input's own form: as it is, or flat rows folded.

    Raises:
        BadInput: it has another shape.
    """
    if not tensor.ranked or _fits(found.shape, tensor.shape):
        return found
    row = tensor.shape[1:]
    if row and found.shape == (0,) and not isinstance(tensor.shape[0], int):
        # No rows at all, of which a list cannot say how long they are.
        return found.reshape(0, *(size if isinstance(size, int) else 0 for size in row))
    if len(row) > 1 and found.ndim == 2 and all(isinstance(size, int) for size in row):  # noqa: PLR2004 - rows
        folded = (found.shape[0], *(size for size in row if isinstance(size, int)))
        if found.shape[1] == math.prod(folded[1:]) and _fits(folded, tensor.shape):
            return found.reshape(folded)
    raise BadInput(f"expected {shown(tensor)}, got shape {list(found.shape)}", element=tensor.name)


def folded(found: Array, shape: tuple[int, ...], tensor: Tensor) -> Array:
    """The same values in a shape that somebody sent; their number has been compared with it.

    Raises:
        BadInput: no array can have it: too many dimensions, or beside an empty one a length beyond all bounds.
    """
    try:
        return found.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise BadInput(f"no array has {len(shape)} dimensions {list(shape)!s:.80}", element=tensor.name) from error


def _fits(have: tuple[int, ...], want: tuple[Dimension, ...]) -> bool:
    if len(have) != len(want):
        return False
    for expected, found in zip(want, have, strict=True):
        if expected != found and isinstance(expected, int):
            return False
    return True


def shown(tensor: Tensor) -> str:
    """A tensor's type and shape for people, ``float32[N, 64]``."""
    if not tensor.ranked:
        return f"{tensor.dtype} of any shape"
    return f"{tensor.dtype}[{', '.join('?' if size is None else str(size) for size in tensor.shape)}]"


def encode(names: Sequence[str], values: Sequence[Any]) -> bytes:
    """A graph's outputs as a JSON object with a key for each; sequences become lists and maps objects.

    Raises:
        RunFailed: an output is of a type that JSON cannot hold.
    """
    document = {name: _plain(value) for name, value in zip(names, values, strict=True)}
    try:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        raise RunFailed(f"the output cannot be written as JSON: {error}", element=", ".join(names)) from error


def _numbers(found: Array, tensor: Tensor) -> Array:
    dtype = bfloat16.carrier(tensor.dtype)
    kind = np.dtype(dtype).kind
    if found.dtype == object and kind == "f":
        found = _without_null(found, tensor)
    if found.size == 0:
        return found.astype(dtype)
    if found.dtype.kind not in _KINDS[kind]:
        raise _other_type(found, tensor)
    if kind in "iu":
        _check_range(found.min(), found.max(), tensor)
    if dtype != tensor.dtype and np.any(np.abs(found) > bfloat16.LARGEST):
        raise BadInput(f"a value is too large for {tensor.dtype}", element=tensor.name)
    if found.dtype == dtype:
        return found
    if kind != "f":
        return found.astype(dtype)
    try:
        with np.errstate(over="raise"):
            return found.astype(dtype)
    except FloatingPointError as error:
        raise BadInput(f"a value is too large for {tensor.dtype}", element=tensor.name) from error


def _holds_truth(value: Any) -> bool:
    if not isinstance(value, list):
        return isinstance(value, bool)
    kinds = set(map(type, value))
    return bool in kinds or (list in kinds and any(map(_holds_truth, value)))


def _whole(value: Any, tensor: Tensor) -> Array:
    """Whole floats as exact integers: NumPy makes floats of a list that holds one, or large and small integers."""
    found = np.array(value, dtype=object)
    if not found.size:
        return found.astype(tensor.dtype)
    if not all(float(one).is_integer() for one in found.flat):
        raise BadInput(f"expected {shown(tensor)}, got fractions", element=tensor.name)
    # JSON's reader makes a float of an integer beyond 64 bits: the lowest of them all may have been a lower one.
    if any(isinstance(one, float) and one <= _LOWEST for one in found.flat):
        raise BadInput(f"a value is not above {int(_LOWEST)}", element=tensor.name)
    exact = [int(one) for one in found.flat]
    _check_range(min(exact), max(exact), tensor)
    return np.array(exact, tensor.dtype).reshape(found.shape)


def _check_range(low: int, high: int, tensor: Tensor) -> None:
    limits = np.iinfo(tensor.dtype)
    if low < limits.min or high > limits.max:
        raise BadInput(f"a value is outside {limits.min} to {limits.max}", element=tensor.name)


def _without_null(found: Array, tensor: Tensor) -> Array:
    """Floats with NaN for null; anything else among them is an error, since NumPy would convert strings."""
    if not all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in found.flat
    ):
        raise _other_type(found, tensor)
    return found.astype(np.float64)


def _strings(found: Array, tensor: Tensor) -> Array:
    if not all(isinstance(value, str) for value in found.flat):
        raise _other_type(found, tensor)
    return found


def _other_type(found: Array, tensor: Tensor) -> BadInput:
    names = {"f": "floats", "i": "integers", "u": "integers", "b": "booleans", "U": "strings"}
    return BadInput(f"expected {shown(tensor)}, got {names.get(found.dtype.kind, 'mixed values')}", element=tensor.name)


def _plain(value: Any) -> Any:
    """What orjson can write: arrays of text, or without dimensions, as plain values; maps and sequences as they are."""
    if isinstance(value, np.ndarray) and (value.dtype.kind in "OUS" or value.ndim == 0):
        return value.tolist()
    return [_plain(one) for one in value] if isinstance(value, list) else value
