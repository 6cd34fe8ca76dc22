"""Bodies of the Open Inference Protocol: JSON, with tensors in it or as bytes behind it, to arrays and back.

With the header ``Inference-Header-Content-Length`` the body is that many bytes of JSON followed by the bytes of each
input that has ``binary_data_size`` in its parameters, in their order. A length of 0 means no JSON at all: the bytes of
the only input. Outputs are bytes where ``binary_data`` (of one output) or ``binary_data_output`` (of all) asks for it.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import orjson

from modules.scoring.graphs import large_json, raw_tensors
from modules.scoring.graphs.shared_run import Feeds, Values
from modules.scoring.http.replies import Header, Reply
from modules.scoring.runtime import BadInput, Buffer, Tensor
from modules.scoring.v2 import v2_inputs
from modules.scoring.v2.v2_inputs import DATATYPES, Given

HEADER_LENGTH: Final = b"inference-header-content-length"
_LENGTH: Final = re.compile(rb"[0-9]{1,18}").fullmatch
_BINARY: Final = (b"content-type", b"application/octet-stream")
_JSON: Final = (b"content-type", b"application/json")


class Asked(msgspec.Struct, frozen=True):
    """A request's head: its JSON, the bytes behind it, and for each wanted output whether it is to be bytes.

    ``truths``: there are booleans in the JSON.
    """

    document: dict[str, Any]
    rest: memoryview
    raw: bool
    outputs: tuple[tuple[str, bool], ...]
    id: str
    truths: bool = True


def read(body: Buffer, header_length: bytes | None, outputs: Sequence[Tensor]) -> Asked:
    """Take a body apart.

    Raises:
        BadInput: it is not what the protocol describes, or asks for outputs that the graph does not have.
    """
    length = len(body)
    if header_length is not None:
        if not _LENGTH(header_length) or int(header_length) > length:
            raise BadInput(
                f"expected at most {length}, the body's length, got {header_length[:40].decode('latin-1')}",
                element="Inference-Header-Content-Length",
            )
        length = int(header_length)
    view = memoryview(body)
    if header_length is not None and length == 0:
        return Asked({}, view, True, tuple((one.name, True) for one in outputs), "")  # noqa: FBT003 - raw, all bytes
    try:
        document = large_json.loads(body if length == len(body) else bytes(view[:length]))
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not valid JSON: {error}", element="body") from error
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        raise BadInput("expected a JSON object with a list called inputs", element="body")
    parameters = _parameters(document, "body")
    given = document.get("id")
    if not isinstance(given, str | None):
        raise BadInput("expected a string", element="id")
    wanted = _wanted(document, outputs, everything=parameters.get("binary_data_output") is True)
    truths = large_json.says_truth(body, length)
    return Asked(document, view[length:], False, wanted, given or "", truths)  # noqa: FBT003 - not raw


def feeds(asked: Asked, inputs: Sequence[Tensor]) -> Feeds:
    """The arrays of a request.

    Raises:
        BadInput: names, types, shapes or lengths that the graph does not have; says what was expected and found.
    """
    if asked.raw:
        if len(inputs) != 1:
            raise BadInput(f"expected {len(inputs)} inputs, got the bytes of one", element="body")
        return {inputs[0].name: raw_tensors.only(asked.rest, inputs[0])}
    return v2_inputs.feeds(_given(asked), inputs, truths=asked.truths)


def _given(asked: Asked) -> Iterator[Given]:
    rest = asked.rest
    for one in asked.document["inputs"]:
        if not isinstance(one, dict):
            yield Given(None, None, (), None)
            continue
        name = one.get("name")
        shape = _shape(one, name)
        size = _parameters(one, name).get("binary_data_size")
        if size is None:
            yield Given(name, one.get("datatype"), shape, one.get("data"))
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise BadInput(f"expected at most the {len(rest)} bytes that are left, got {size!r}", element=f"{name}")
        yield Given(name, one.get("datatype"), shape, rest[:size])
        rest = rest[size:]
    if len(rest):
        raise BadInput(f"{len(rest)} bytes are left behind the last input", element="body")


def answer(
    asked: Asked, outputs: Sequence[Tensor], values: Values, *, model: str, version: str, headers: tuple[Header, ...]
) -> Reply:
    """The answer to a request: JSON, with the outputs that were asked for as bytes behind it."""
    by_name = {tensor.name: (tensor, value) for tensor, value in zip(outputs, values, strict=True)}
    listed, parts = [], []
    for name, binary in asked.outputs:
        tensor, value = by_name[name]
        if binary and isinstance(value, np.ndarray):
            data, dtype, shape = raw_tensors.written(value, tensor)
            parts.append(data)
            entry = {"parameters": {"binary_data_size": len(data)}}
        else:
            shape, dtype, data = _flat(value)
            entry = {"data": data}
        listed.append({"name": name, "datatype": DATATYPES.get(dtype, dtype), "shape": shape, **entry})
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if asked.id:
        document["id"] = asked.id
    document["outputs"] = listed
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    if not parts:
        return Reply(200, head, (_JSON, *headers))
    length = (HEADER_LENGTH, b"%d" % len(head))
    return Reply(200, (head, *parts), (_BINARY, length, *headers))


def _flat(value: Any) -> tuple[tuple[int, ...], str, Any]:
    """Shape, type and values in one list. What is no tensor is one text of JSON for each element of its list."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OUS":
            return value.shape, "string", [str(one) for one in value.ravel()]
        flat = np.ascontiguousarray(value).reshape(-1)
        return value.shape, value.dtype.name, flat
    several = v2_inputs.texts(value)
    return (len(several),), "string", several


def _shape(given: dict[str, Any], name: Any) -> tuple[int, ...]:
    shape = given.get("shape")
    if isinstance(shape, np.ndarray):
        shape = shape.tolist()
    if not isinstance(shape, list) or not all(type(one) is int and one >= 0 for one in shape):
        raise BadInput(f"expected a list of lengths, got {shape!r:.40}", element=f"{name}.shape")
    return tuple(shape)


def _wanted(document: dict[str, Any], outputs: Sequence[Tensor], *, everything: bool) -> tuple[tuple[str, bool], ...]:
    asked = document.get("outputs")
    if not asked:
        return tuple((one.name, everything) for one in outputs)
    found = []
    for one in asked if isinstance(asked, list) else [asked]:
        given = one if isinstance(one, dict) else {}
        name = v2_inputs.output_name(given.get("name"), outputs)
        found.append((name, _parameters(given, name).get("binary_data", everything) is True))
    return tuple(found)


def _parameters(given: dict[str, Any], element: Any) -> dict[str, Any]:
    parameters = given.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise BadInput("expected an object called parameters", element=str(element))
    return parameters
