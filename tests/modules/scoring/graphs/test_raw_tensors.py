"""Bytes posted to ``/score`` instead of JSON, through a real socket."""

import numpy as np
import pytest
from onnx import TensorProto, helper

RAW = {"Content-Type": "application/octet-stream"}
VALUES = np.array([[1, -1, 2, -2], [5, 0, -5, 9]], np.float32)


@pytest.fixture(scope="module")
def server(start, relu):
    return start("--model", relu).ready()


def test_declared_shape(server):
    """The bytes of the only input need no shape where only one dimension is free."""
    assert server.ask(body=VALUES.tobytes(), headers=RAW).json == {"y": [[1, 0, 2, 0], [5, 0, 0, 9]]}


def test_shape_in_a_header(start, graph):
    """A header gives the shape where two dimensions are free; without it the answer says so."""
    shape = (TensorProto.FLOAT, ["N", "M"])
    server = start("--model", graph([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})).ready()
    reply = server.ask(body=VALUES.tobytes(), headers=RAW | {"x-tensor-shape": "4,2"})
    assert reply.json == {"y": [[1, 0], [2, 0], [5, 0], [0, 9]]}
    refused = server.ask(body=VALUES.tobytes(), headers=RAW)
    assert (refused.status, "send x-tensor-shape" in refused.json["message"]) == (400, True)


def test_answer_in_bytes(server):
    """Who accepts bytes gets the first output as bytes, with its shape and type in headers."""
    reply = server.ask(body=VALUES.tobytes(), headers=RAW | {"Accept": "application/octet-stream"})
    assert (reply.headers["x-tensor-shape"], reply.headers["x-tensor-type"]) == ("2,4", "float32")
    np.testing.assert_array_equal(np.frombuffer(reply.body, np.float32).reshape(2, 4), np.maximum(VALUES, 0))


@pytest.mark.parametrize(
    ("body", "shape", "said"),
    [
        pytest.param(b"\0" * 7, "", "7 bytes are not a whole number of float32", id="when a value is cut"),
        pytest.param(b"\0" * 20, "", "expected float32[N, 4], got 5 values", id="when a row is cut"),
        pytest.param(b"\0" * 16, "2,4", "expected 32 bytes for shape [2, 4]", id="when the shape asks for more"),
        pytest.param(b"\0" * 16, "2,2", "got shape [2, 2]", id="when the graph does not take the shape"),
        pytest.param(b"\0" * 16, "-1,4", "expected", id="when a length is negative"),
        pytest.param(b"\0" * 4, ",".join(["1"] * 65), "65 dimensions", id="when there are too many dimensions"),
        pytest.param(b"\0" * 16, "1" * 5000, "is not a shape", id="when a length has no end"),
        pytest.param(b"\0" * 16, "\u00b9,4", "is not a shape", id="when the digits are others"),
        pytest.param(b"\0" * 16, "0_1,4", "is not a shape", id="when it is Python's"),
        pytest.param(b"\0" * 16, "one", "is not a shape", id="when the shape is none"),
    ],
)
def test_refusals(server, body, shape, said):
    """Bytes that do not go with the shape are 400 with what was expected and found."""
    reply = server.ask(body=body, headers=RAW | ({"x-tensor-shape": shape} if shape else {}))
    assert (reply.status, said in reply.json["message"]) == (400, True), reply.json


def test_several_inputs(start, graph):
    """A graph of two inputs cannot be asked with the bytes of one."""
    shape = (TensorProto.FLOAT, ["N"])
    path = graph([helper.make_node("Add", ["a", "b"], ["c"])], {"a": shape, "b": shape}, {"c": shape})
    reply = start("--model", path).ready().ask(body=b"\0" * 4, headers=RAW)
    assert (reply.status, "expected the inputs a, b" in reply.json["message"]) == (400, True)


def test_flat_rows(start, graph):
    """Rows in JSON may be flat where the graph's dimensions after the first are fixed."""
    shape = (TensorProto.FLOAT, ["N", 2, 2])
    server = start("--model", graph([helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, {"y": shape})).ready()
    assert server.ask(body={"data": [[1, -1, 2, -2]]}).json == {"y": [[[1, 0], [2, 0]]]}
    assert server.ask(body={"data": [[1, -1, 2]]}).status == 400
