"""What a body posted to ``/score`` can be for a graph, by its content type, and what the answer then is.

JSON is assumed unless the type says ``application/octet-stream``: the bytes of the only input, little-endian, row after
row, in its declared shape or the one in the header ``x-tensor-shape: 2,64``. Who accepts ``application/octet-stream``
gets the first output the same way. ``image/jpeg`` and ``image/png`` are taken where the manifest says how.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from modules.manifest import ImageInput
from modules.scoring.graphs import image_input, raw_tensors, tensors
from modules.scoring.graphs.inputs import decode
from modules.scoring.graphs.shared_run import Feeds, Values
from modules.scoring.runtime import Answer, BadInput, Request, Tensor

RAW: Final = b"application/octet-stream"
SHAPE: Final = b"x-tensor-shape"
Codec = tuple[Callable[[], Feeds], Callable[[Values, float], Answer]]


def codec(
    request: Request, inputs: Sequence[Tensor], outputs: Sequence[Tensor], image: ImageInput | None = None
) -> Codec:
    """How to read this request's body and how to write its answer.

    Raises:
        BadInput: a body of a type that this graph does not take.
    """
    kind = accepts = shape = b""
    for name, value in request.raw_headers:
        if name == b"content-type":
            kind = value
        elif name == b"accept":
            accepts = value
        elif name == SHAPE:
            shape = value
    encode = _raw_answer if accepts.startswith(RAW) else _json_answer
    if kind.startswith(RAW):
        return partial(_raw, request, inputs, shape), partial(encode, outputs)
    if kind.startswith(b"image/"):
        if image is None:
            raise BadInput(
                "its module declares no preprocessing for images", element=kind.decode("latin-1"),
                remedy="send JSON, or declare image in the manifest",
            )  # fmt: skip
        return partial(image_input.feeds, request.body, image, inputs), partial(encode, outputs)
    return partial(decode, request.body, inputs), partial(encode, outputs)


def _raw(request: Request, inputs: Sequence[Tensor], shape: bytes) -> Feeds:
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs)
        raise BadInput(
            f"expected the inputs {names}, got the bytes of one", element="body", remedy="send JSON, or ask below /v2"
        )
    return {inputs[0].name: raw_tensors.only(request.body, inputs[0], shape.decode("latin-1"))}


def _json_answer(outputs: Sequence[Tensor], values: Values, run_ms: float) -> Answer:
    return Answer(body=tensors.encode([one.name for one in outputs], values), run_ms=run_ms)


def _raw_answer(outputs: Sequence[Tensor], values: Values, run_ms: float) -> Answer:
    body, dtype, shape = raw_tensors.written(values[0], outputs[0])
    headers = (
        ("content-type", RAW.decode()), ("x-tensor-shape", ",".join(map(str, shape))), ("x-tensor-type", dtype),
    )  # fmt: skip
    return Answer(body=body, headers=headers, run_ms=run_ms)
