"""Messages of the Open Inference Protocol over gRPC to arrays and back.

Inputs come as bytes in ``raw_input_contents``, one for each input, or as values in the field of their type, which FP16
does not have. Outputs are always bytes, as clients expect them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from open_inference.grpc.protocol import ModelInferRequest, ModelInferResponse

from modules.scoring.graphs import raw_tensors
from modules.scoring.graphs.shared_run import Feeds, Values
from modules.scoring.runtime import BadInput, Tensor
from modules.scoring.v2 import v2_inputs
from modules.scoring.v2.v2_inputs import DATATYPES, Given

# The protocol's type -> the field of its values, and NumPy's type of them.
_VALUES: Final[dict[str, tuple[str, Any]]] = (
    {"BOOL": ("bool_contents", np.bool_), "FP32": ("fp32_contents", np.float32), "FP64": ("fp64_contents", np.float64)}
    | {f"INT{bits}": ("int_contents", np.int32) for bits in (8, 16, 32)}
    | {f"UINT{bits}": ("uint_contents", np.uint32) for bits in (8, 16, 32)}
    | {"INT64": ("int64_contents", np.int64), "UINT64": ("uint64_contents", np.uint64)}
)


def wanted(request: ModelInferRequest, outputs: Sequence[Tensor]) -> tuple[str, ...]:
    """The names of the outputs to give.

    Raises:
        BadInput: the graph does not have one of them.
    """
    asked = [v2_inputs.output_name(one.name, outputs) for one in request.outputs]
    return tuple(asked or (one.name for one in outputs))


def feeds(request: ModelInferRequest, inputs: Sequence[Tensor]) -> Feeds:
    """The arrays of a request.

    Raises:
        BadInput: names, types, shapes or lengths that the graph does not have; says what was expected and found.
    """
    return v2_inputs.feeds(_given(request), inputs)


def answer(
    request: ModelInferRequest, names: Sequence[str], outputs: Sequence[Tensor], values: Values, *, version: str
) -> bytes:
    """The response's bytes: the named outputs, what is no tensor as one text of JSON for each element."""
    response = ModelInferResponse(model_name=request.model_name, model_version=version, id=request.id)
    by_name = {tensor.name: (tensor, value) for tensor, value in zip(outputs, values, strict=True)}
    for name in names:
        tensor, value = by_name[name]
        array = value if isinstance(value, np.ndarray) else np.array(v2_inputs.texts(value), dtype=object)
        data, dtype, shape = raw_tensors.written(array, tensor)
        response.outputs.add(name=name, datatype=DATATYPES.get(dtype, dtype), shape=shape)
        response.raw_output_contents.append(bytes(data))
    return bytes(response.SerializeToString())


def _given(request: ModelInferRequest) -> Iterator[Given]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadInput(
            f"expected the bytes of all {len(request.inputs)} inputs, got {len(raw)}", element="raw_input_contents"
        )
    for place, one in enumerate(request.inputs):
        shape = tuple(one.shape)
        if min(shape, default=0) < 0:
            raise BadInput(f"expected a list of lengths, got {list(shape)}", element=f"{one.name}.shape")
        if raw and one.HasField("contents"):
            raise BadInput("expected bytes or values, got both", element=one.name)
        yield Given(one.name, one.datatype, shape, memoryview(raw[place]) if raw else _values(one))


def _values(given: ModelInferRequest.InferInputTensor) -> Any:
    if given.datatype == "BYTES":
        try:
            return [str(one, "utf-8") for one in given.contents.bytes_contents]
        except UnicodeDecodeError as error:
            raise BadInput("a string is not UTF-8", element=given.name) from error
    if given.datatype not in _VALUES:
        raise BadInput(
            f"no field holds values of {given.datatype}", element=given.name, remedy="send raw_input_contents"
        )
    field, dtype = _VALUES[given.datatype]
    return np.array(getattr(given.contents, field), dtype)
