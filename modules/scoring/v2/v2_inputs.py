"""What requests and answers of the Open Inference Protocol have in common, whether they come over HTTP or gRPC."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from modules.scoring.graphs import raw_tensors, tensors
from modules.scoring.graphs.shared_run import Feeds
from modules.scoring.runtime import BadInput, Tensor

# ONNX element type -> the protocol's name.
DATATYPES: Final = {
    "bfloat16": "BF16",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bool": "BOOL",
    "string": "BYTES",
} | {f"{sign}int{bits}": f"{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_TEXT: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class Given(NamedTuple):
    """One input as it was sent: ``data`` is its bytes (a memoryview), or its values (a list or array)."""

    name: Any
    datatype: Any
    shape: tuple[int, ...]
    data: Any


def feeds(given: Iterable[Given], inputs: Sequence[Tensor], *, truths: bool = True) -> Feeds:
    """The arrays of a request; ``truths`` as in :func:`tensors.array`.

    Raises:
        BadInput: names, types, shapes or lengths that the graph does not have; says what was expected and found.
    """
    known = {one.name: one for one in inputs}
    found: Feeds = {}
    for name, datatype, shape, data in given:
        if not isinstance(name, str) or name not in known or name in found:
            raise BadInput(f"expected the inputs {', '.join(known)}, got {name!r}", element="inputs")
        tensor = known[name]
        raw_tensors.check(tensor)
        expected = DATATYPES[tensor.dtype]
        if datatype != expected:
            raise BadInput(f"expected {expected}, got {datatype!r}", element=f"{name}.datatype")
        if isinstance(data, memoryview):
            found[name] = raw_tensors.read(data, tensor, shape)
        else:
            found[name] = _listed(data, tensor, shape, truths=truths)
    if found.keys() != known.keys():
        missing = ", ".join(name for name in known if name not in found)
        raise BadInput(f"expected the inputs {', '.join(known)}, got none called {missing}", element="inputs")
    return found


def output_name(given: Any, outputs: Sequence[Tensor]) -> str:
    """The name of an output that is asked for.

    Raises:
        BadInput: the graph has none of this name.
    """
    names = [one.name for one in outputs]
    if not isinstance(given, str) or given not in names:
        raise BadInput(f"expected some of {', '.join(names)}, got {given!r}", element="outputs")
    return given


def texts(value: Any) -> list[str]:
    """What is no tensor: one text of JSON for each element of its list."""
    several = value if isinstance(value, list) else [value]
    return [orjson.dumps(one, option=_TEXT).decode() for one in several]


def _listed(data: Any, tensor: Tensor, shape: tuple[int, ...], *, truths: bool) -> tensors.Array:
    """Values in a list, flat or nested, as the array that the input takes."""
    if not isinstance(data, list | np.ndarray):
        raise BadInput(f"expected a list called data, or binary_data_size, got {data!r:.40}", element=tensor.name)
    nested = (
        len(shape) > 1
        and len(data) > 0
        and (data.ndim > 1 if isinstance(data, np.ndarray) else isinstance(data[0], list))
    )
    if nested:
        found = tensors.array(data, tensor, truths=truths)
        if found.shape != shape:
            raise BadInput(f"expected shape {list(shape)}, got {list(found.shape)}", element=tensor.name)
        return found
    flat = tensors.array(data, Tensor(tensor.name, tensor.dtype, (None,)), truths=truths)
    if len(flat) != math.prod(shape):
        wanted = f"{math.prod(shape)} values for shape {list(shape)}"
        raise BadInput(f"expected {wanted}, got {len(flat)}", element=tensor.name)
    return tensors.shaped(tensors.folded(flat, shape, tensor), tensor)
