"""Arrays as the bytes they are: little-endian, row after row, text as a length of four bytes and UTF-8.

Numbers are neither copied on their way in (the array looks into the request's body) nor on their way out.
"""

import math
import re
import struct
from typing import Any, Final

import numpy as np

from modules.scoring.graphs import bfloat16
from modules.scoring.graphs.tensors import NAMES, Array, folded, shaped, shown
from modules.scoring.runtime import BadInput, Buffer, RunFailed, Tensor

_LENGTH: Final = struct.Struct("<I")
# Blanks and a sign are taken, as ever.
_SIZES: Final = re.compile(r" *[+-]?[0-9]{1,18} *(, *[+-]?[0-9]{1,18} *)*", re.ASCII)
_SMALL: Final = 4096


def check(tensor: Tensor) -> None:
    """Accept an input that bytes, or lists with a shape, can carry.

    Raises:
        BadInput: it is a sequence or a map.
    """
    if tensor.dtype not in NAMES:
        raise BadInput(f"it is a {tensor.dtype}, and no tensor", element=tensor.name, remedy="send JSON to /score")


def only(body: Buffer, tensor: Tensor, shape: str = "") -> Array:
    """A body that is one input and nothing else, in the shape given as ``2,64``, or the declared one.

    Raises:
        BadInput: the length does not go with the shape, or no shape follows from the length.
    """
    check(tensor)
    if shape:
        if not _SIZES.fullmatch(shape):
            raise BadInput(f"{shape!r:.80} is not a shape such as 2,64", element=tensor.name)
        sizes = tuple(map(int, shape.split(",")))
        return read(memoryview(body), tensor, sizes)
    if tensor.dtype == "string":
        found = _strings(memoryview(body), tensor)
        return shaped(found.reshape(_inferred(tensor, len(found))), tensor)
    width = bfloat16.WIDTH if tensor.dtype == bfloat16.NAME else np.dtype(tensor.dtype).itemsize
    if len(body) % width:
        raise BadInput(f"{len(body)} bytes are not a whole number of {tensor.dtype} values", element=tensor.name)
    return read(memoryview(body), tensor, _inferred(tensor, len(body) // width))


def read(body: memoryview, tensor: Tensor, shape: tuple[int, ...]) -> Array:
    """The bytes of one tensor as an array of this shape.

    Raises:
        BadInput: another length than the shape asks for, or a shape that the graph does not take.
    """
    count = math.prod(shape)
    if tensor.dtype == "string":
        found = _strings(body, tensor)
        if min(shape, default=0) < 0 or len(found) != count:
            raise BadInput(f"expected {count} strings for shape {list(shape)}, got {len(found)}", element=tensor.name)
        return shaped(folded(found, shape, tensor), tensor)
    narrow = tensor.dtype == bfloat16.NAME
    dtype = np.dtype("u2" if narrow else tensor.dtype).newbyteorder("<")
    if min(shape, default=0) < 0 or len(body) != count * dtype.itemsize:
        wanted = f"{count * dtype.itemsize} bytes for shape {list(shape)}"
        raise BadInput(f"expected {wanted} of {shown(tensor)}, got {len(body)}", element=tensor.name)
    if dtype.kind == "b" and np.frombuffer(body, np.uint8).max(initial=0) > 1:
        raise BadInput("a boolean is the byte 0 or 1", element=tensor.name)
    found = folded(np.frombuffer(body, dtype), shape, tensor)
    return shaped(bfloat16.widened(found) if narrow else found, tensor)


def written(value: Any, tensor: Tensor) -> tuple[Buffer, str, tuple[int, ...]]:
    """An output's bytes, type and shape.

    Raises:
        RunFailed: it is a sequence or a map.
    """
    if not isinstance(value, np.ndarray):
        raise RunFailed("a sequence or map has no bytes of its own", element=tensor.name, remedy="ask for JSON")
    if value.dtype.kind in "OUS":
        texts = [str(one).encode() for one in value.ravel()]
        return b"".join(_LENGTH.pack(len(one)) + one for one in texts), "string", value.shape
    if tensor.dtype == bfloat16.NAME:
        return bfloat16.narrowed(value).tobytes(), bfloat16.NAME, value.shape
    if value.nbytes <= _SMALL:
        return value.tobytes(), value.dtype.name, value.shape
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data, value.dtype.name, value.shape


def _inferred(tensor: Tensor, count: int) -> tuple[int, ...]:
    """The declared shape, with the one free dimension that ``count`` values leave."""
    free = [place for place, size in enumerate(tensor.shape) if not isinstance(size, int)]
    fixed = math.prod(size for size in tensor.shape if isinstance(size, int))
    if len(free) > 1 or not tensor.ranked:
        raise BadInput(f"{shown(tensor)} does not say its shape", element=tensor.name, remedy="send x-tensor-shape")
    if (not free and count != fixed) or (free and (not fixed or count % fixed)):
        raise BadInput(f"expected {shown(tensor)}, got {count} values", element=tensor.name)
    sizes = [size if isinstance(size, int) else count // fixed for size in tensor.shape]
    return tuple(sizes)


def _strings(body: memoryview, tensor: Tensor) -> Array:
    found, place = [], 0
    while place < len(body):
        if place + _LENGTH.size > len(body):
            raise BadInput("the length of a string is cut short", element=tensor.name)
        (length,) = _LENGTH.unpack_from(body, place)
        place += _LENGTH.size
        if place + length > len(body):
            raise BadInput(f"a string of {length} bytes is cut short", element=tensor.name)
        try:
            found.append(str(body[place : place + length], "utf-8"))
        except UnicodeDecodeError as error:
            raise BadInput("a string is not UTF-8", element=tensor.name) from error
        place += length
    array = np.empty(len(found), dtype=object)
    array[:] = found
    return array
