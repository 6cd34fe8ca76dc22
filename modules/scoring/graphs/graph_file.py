"""Whether a file can be an ONNX graph at all, so that "not ONNX" and "cut short" are told apart before it is loaded.

A graph is a protobuf message: a sequence of fields, each a tag and a value that knows its length. Only the outermost
fields are walked, by seeking, so the check costs the same for a gigabyte.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from modules.errors import Invalid

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH: Final = 7
# Field numbers of ModelProto and their wire types; anything else at the start is another kind of file.
_FIELDS: Final = {
    1: _VARINT,
    2: _BYTES,
    3: _BYTES,
    4: _BYTES,
    5: _VARINT,
    6: _BYTES,
    _GRAPH: _BYTES,
    8: _BYTES,
    14: _BYTES,
}
_OP_TYPE: Final = 4
# A graph's inputs and outputs; of each its name and type, of the type a tensor's, of that its shape.
_VALUES: Final = frozenset({11, 12})
_VALUE_NAME, _VALUE_TYPE, _TENSOR, _SHAPE = 1, 2, 1, 2
# Where operators stand: message -> the fields to look into -> what these are. A model has graph (7) and functions (25);
# those have nodes; nodes have attributes (5), in which whole graphs may be (6 for one, 11 for several).
_Inside = dict[int, "_Inside"]
_NODE: Final[_Inside] = {}
_NESTED: Final[_Inside] = {1: _NODE}
_NODE[5] = {6: _NESTED, 11: _NESTED}
_INSIDE: Final[_Inside] = {_GRAPH: _NESTED, 25: {7: _NODE}}
_ORT_FORMAT: Final = b"ORTM"
_VARINT_BYTES: Final = 10


def check(path: Path) -> None:
    """Accept a file that has the outer form of an ONNX graph, or of onnxruntime's own format.

    Raises:
        Invalid: missing, empty, not ONNX, or truncated.
    """
    try:
        size = path.stat().st_size
        stream = path.open("rb")
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", element=str(path)) from error
    with stream:
        if stream.read(8)[4:] == _ORT_FORMAT:
            return
        stream.seek(0)
        seen: set[int] = set()
        while stream.tell() < size:
            _field(stream, size, path, seen)
    if _GRAPH not in seen:
        raise _truncated(path) if seen else Invalid("the file is empty", element=str(path), remedy="register it again")


def operators(path: Path) -> frozenset[str]:
    """The operators of a graph that onnxruntime has loaded, those of functions and of inner graphs included.

    Empty for onnxruntime's own format, which is not read here.
    """
    found: set[str] = set()
    with path.open("rb") as stream:
        if stream.read(8)[4:] == _ORT_FORMAT:
            return frozenset()
        stream.seek(0)
        _operators(stream, path.stat().st_size, _INSIDE, found)
    return frozenset(found)


def unranked(path: Path) -> frozenset[str]:
    """The inputs and outputs that say no number of dimensions; onnxruntime shows them as it shows lone numbers."""
    found: set[str] = set()
    with path.open("rb") as stream:
        if stream.read(8)[4:] == _ORT_FORMAT:
            return frozenset()
        stream.seek(0)
        for number, end in messages(stream, path.stat().st_size):
            for inner, inner_end in messages(stream, end) if number == _GRAPH else ():
                if inner in _VALUES:
                    found |= _unranked(stream, inner_end)
    return frozenset(found)


def _unranked(stream: BinaryIO, end: int) -> set[str]:
    """The name of the value that ends at ``end``, if its type is a tensor's without a shape."""
    name, shapeless = "", False
    for number, inner in messages(stream, end):
        if number == _VALUE_NAME:
            name = stream.read(inner - stream.tell()).decode(errors="replace")
        elif number == _VALUE_TYPE:
            for kind, kind_end in messages(stream, inner):
                shapeless = kind == _TENSOR and all(one != _SHAPE for one, _ in messages(stream, kind_end))
    return {name} if shapeless else set()


def _operators(stream: BinaryIO, end: int, inside: "_Inside", found: set[str]) -> None:
    """Collect the operators of one message, which ends at ``end``; ``inside`` says in which of its fields to look."""
    for number, inner in messages(stream, end):
        below = inside.get(number)
        if below is not None:
            _operators(stream, inner, below, found)
        elif inside is _NODE and number == _OP_TYPE:
            found.add(stream.read(inner - stream.tell()).decode(errors="replace"))


def messages(stream: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """(field number, where it ends) of the length-delimited fields up to ``end``, each with the stream at its begin."""
    while stream.tell() < end:
        tag = _varint(stream) or 0
        wire = tag & 7
        if wire == _VARINT:
            _varint(stream)
        elif wire == _BYTES:
            stop = (_varint(stream) or 0) + stream.tell()
            yield tag >> 3, stop
            stream.seek(stop)
        else:
            stream.seek(8 if wire == _FIXED64 else 4, os.SEEK_CUR)


def _field(stream: BinaryIO, size: int, path: Path, seen: set[int]) -> None:
    """Step over one field, adding its number to ``seen``."""
    tag = _varint(stream)
    if tag is None:
        raise _truncated(path) if seen else _not_onnx(path)
    number, wire = tag >> 3, tag & 7
    if not seen and _FIELDS.get(number) != wire:
        raise _not_onnx(path)
    if wire == _VARINT:
        ended = _varint(stream) is None
    elif wire in (_BYTES, _FIXED32, _FIXED64):
        length = {_FIXED32: 4, _FIXED64: 8}.get(wire) or _varint(stream)
        ended = length is None or stream.tell() + length > size
        stream.seek(min(size, stream.tell() + (length or 0)))
    else:
        raise _not_onnx(path)
    if ended:
        # A length that leads out of a file that began with an unlikely field says more about the file than its end.
        raise _truncated(path) if _FIELDS.get(number) == wire else _not_onnx(path)
    seen.add(number)


def _varint(stream: BinaryIO) -> int | None:
    """The next variable-length integer; None where the file ends in it."""
    value = 0
    for position in range(_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << (7 * position)
        if byte[0] < 0x80:  # noqa: PLR2004 - the continuation bit
            return value
    return None


def _not_onnx(path: Path) -> Invalid:
    return Invalid(
        "this is not an ONNX graph",
        element=str(path),
        remedy="export the model to ONNX; a Git LFS pointer is not the model",
    )


def _truncated(path: Path) -> Invalid:
    return Invalid("the ONNX graph is truncated", element=str(path), remedy="copy or export the file again")
