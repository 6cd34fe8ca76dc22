"""What a graph takes from JSON, by the names of its inputs: tensors, sequences of tensors, and maps; and an example.

A sequence is a list of tensors of any shape, a map an object: its keys are words, or whole numbers as text.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from modules.scoring.graphs import bfloat16, large_json, tensors
from modules.scoring.graphs.tensors import DTYPES, Array
from modules.scoring.runtime import BadInput, Tensor

# Of the maps that a graph can declare those that ONNX Runtime takes from Python, with the type of their keys.
MAPS: Final = {"map(string,tensor(float))": str, "map(int64,tensor(float))": int}
_SEQUENCES: Final = {f"seq({name})": dtype for name, dtype in DTYPES.items() if dtype != bfloat16.NAME}
_MAX_EXAMPLE: Final = 1 << 24
_KEY: Final = re.compile(r"-?[0-9]{1,100}").fullmatch
_LARGEST_KEY: Final = (1 << 63) - 1

Container = list[Array] | dict[str, float] | dict[int, float]


def taken(kind: str) -> bool:
    """Whether requests can carry an input of this type (ONNX Runtime's name of it) that is no tensor."""
    return kind in MAPS or kind in _SEQUENCES


def decode(body: bytes | bytearray, inputs: Sequence[Tensor]) -> dict[str, Any]:
    """The values in a request's body: ``{"data": rows}`` where there is one input, or one key for each input's name.

    A row may be flat: ``[N, 12]`` for an input of ``[N, 3, 4]``.

    Raises:
        BadInput: not JSON, or names, types or shapes that the graph does not have; says what was expected and found.
    """
    try:
        document = large_json.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not valid JSON: {error}", element="body") from error
    truths = large_json.says_truth(body)
    if isinstance(document, dict) and len(inputs) == 1 and len(document) == 1:
        (tensor,) = inputs
        if (value := document.get("data", document.get(tensor.name))) is not None:
            return {tensor.name: read(value, tensor, truths=truths)}
    names = {tensor.name for tensor in inputs}
    if not isinstance(document, dict) or document.keys() != names:
        found = f"keys {', '.join(sorted(document)) or '(none)'}" if isinstance(document, dict) else "no object"
        raise BadInput(f"expected a JSON object with the keys {', '.join(sorted(names))}, got {found}", element="body")
    return {tensor.name: read(document[tensor.name], tensor, truths=truths) for tensor in inputs}


def read(value: Any, tensor: Tensor, *, truths: bool = True) -> Array | Container:
    """One input's value as the graph takes it; ``truths`` as in :func:`tensors.array`.

    Raises:
        BadInput: it has another type or shape.
    """
    if tensor.dtype in MAPS:
        return _map(value, tensor)
    if tensor.dtype in _SEQUENCES:
        return _sequence(value, tensor)
    return tensors.array(value, tensor, truths=truths)


def example(inputs: Sequence[Tensor], size: int) -> dict[str, Any] | None:
    """Zeros of the graph's types; the first dimension is 1 where it is free, other free ones are ``size``.

    A name that stands first somewhere is 1 everywhere: state is often ``[layers, batch, width]``. Of a sequence's
    tensors, and of an input of unknown rank, nobody knows the shape: one row of ``size``.
    """
    feeds: dict[str, Any] = {}
    batch = {tensor.shape[0] for tensor in inputs if tensor.shape} - {None}
    for tensor in inputs:
        if tensor.dtype in MAPS:
            feeds[tensor.name] = {MAPS[tensor.dtype](0): 0.0}
            continue
        dtype = _SEQUENCES.get(tensor.dtype, tensor.dtype)
        shape = [
            want if isinstance(want, int) else (size if position and want not in batch else 1)
            for position, want in enumerate(tensor.shape)
        ]
        if dtype != tensor.dtype or not tensor.ranked:
            shape = [1, size]
        if math.prod(shape) > _MAX_EXAMPLE:
            return None
        text = dtype == "string"
        zeros = np.full(shape, "" if text else 0, dtype=object if text else bfloat16.carrier(dtype))
        feeds[tensor.name] = zeros if dtype == tensor.dtype else [zeros]
    return feeds


def plain(value: Array | Container) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): one for key, one in value.items()}
    return [one.tolist() for one in value] if isinstance(value, list) else value.tolist()


def _map(value: Any, tensor: Tensor) -> Container:
    if not isinstance(value, dict) or not value:
        raise BadInput(f"expected an object with at least one key, got {value!r:.40}", element=tensor.name)
    numbers = tensors.array(list(value.values()), Tensor(tensor.name, "float32", (None,))).tolist()
    if MAPS[tensor.dtype] is str:
        return dict(zip(value, numbers, strict=True))
    found = {_whole(key, tensor): number for key, number in zip(value, numbers, strict=True)}
    if len(found) < len(value):
        raise BadInput("two of its keys are the same number", element=tensor.name)
    return found


def _whole(key: str, tensor: Tensor) -> int:
    if not _KEY(key) or abs(int(key)) > _LARGEST_KEY:
        raise BadInput(f"expected keys that are whole numbers of 64 bits, got {key!r:.40}", element=tensor.name)
    return int(key)


def _sequence(value: Any, tensor: Tensor) -> Container:
    if not isinstance(value, list | np.ndarray):
        raise BadInput(f"expected a list of tensors, got {value!r:.40}", element=tensor.name)
    found = []
    for place, one in enumerate(value):
        try:
            depth = np.ndim(one)
        except ValueError:  # nested unevenly, which array() explains
            depth = 1
        found.append(tensors.array(one, Tensor(f"{tensor.name}[{place}]", _SEQUENCES[tensor.dtype], (None,) * depth)))
    return found
