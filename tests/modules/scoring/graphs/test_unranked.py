"""A graph whose input says no number of dimensions takes any, in every form."""

import struct

import pytest
from onnx import TensorProto, helper


@pytest.fixture(scope="module")
def server(start, graph):
    """y: x, whatever its shape; beside a number that has none."""
    inputs = {"x": (TensorProto.FLOAT, None), "n": (TensorProto.FLOAT, [])}
    path = graph([helper.make_node("Add", ["x", "n"], ["y"])], inputs, {"y": (TensorProto.FLOAT, None)})
    return start("--model", path).ready()


@pytest.mark.parametrize("value", [2, [1, 2], [[1, 2], [3, 4]], [[[1]], [[2]]], []])
def test_json_of_any_shape(server, value):
    """Numbers, lists and lists of lists come back in their own shape."""
    assert server.ask(body={"x": value, "n": 0}).json == {"y": value}


def test_a_lone_number_stays_one(server):
    """The input that is declared as a lone number takes no list."""
    refused = server.ask(body={"x": [1], "n": [1, 2]})
    assert refused.status == 400
    assert "n: expected float32[]" in refused.json["message"]


def test_the_protocols_shapes(server):
    """Below /v2 the request says the shape, and the metadata have -1 for what nobody knows."""
    given = [
        {"name": "x", "datatype": "FP32", "shape": [1, 2, 1], "data": [1, 2]},
        {"name": "n", "datatype": "FP32", "shape": [], "data": [1]},
    ]
    (output,) = server.ask("/v2/models/graph/infer", {"inputs": given}).json["outputs"]
    assert (output["shape"], output["data"]) == ([1, 2, 1], [2, 3])
    shapes = {one["name"]: one["shape"] for one in server.ask("/v2/models/graph").json["inputs"]}
    assert shapes == {"x": [-1], "n": []}


def test_bytes_with_their_shape(start, graph):
    """Bytes need their shape in a header, and are told so without."""
    kinds = {"x": (TensorProto.FLOAT, None)}
    server = start("--model", graph([helper.make_node("Relu", ["x"], ["y"])], kinds, {"y": kinds["x"]})).ready()
    raw = {"Content-Type": "application/octet-stream"}
    body = struct.pack("<4f", 1, 2, 3, 4)
    assert server.ask(body=body, headers={**raw, "x-tensor-shape": "2,2"}).json == {"y": [[1, 2], [3, 4]]}
    refused = server.ask(body=body, headers=raw)
    assert refused.status == 400
    assert "x-tensor-shape" in refused.json["message"]


def test_the_example_runs(server):
    """The document's example is one that runs, and says nothing about the shape."""
    content = server.ask("/swagger.json").json["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    assert server.ask(body=content["example"]).status == 200
