"""Graphs that take and give bfloat16: as numbers in JSON, as two bytes each in binary forms."""

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from modules.scoring.graphs import bfloat16

NARROW = (TensorProto.BFLOAT16, ["N", 2])


@given(st.lists(st.floats(width=32), min_size=1))
def test_rounding(numbers):
    """Any float32 becomes the bfloat16 that others round it to, and comes back as it was rounded."""
    values = np.array(numbers, np.float32)
    with np.errstate(all="ignore"):
        expected = values.astype(ml_dtypes.bfloat16)
    found = bfloat16.narrowed(values).view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))
    np.testing.assert_array_equal(bfloat16.widened(found.view(np.uint16)), expected.astype(np.float32))


@pytest.fixture(scope="module")
def server(start, graph):
    """y = max(x, 0) in bfloat16; beside it lone numbers and integers, which pass through."""
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT), helper.make_node("Relu", ["wide"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.BFLOAT16),
        helper.make_node("Identity", ["f"], ["g"]), helper.make_node("Identity", ["i"], ["j"]),
        helper.make_node("Identity", ["z"], ["n"]),
    ]  # fmt: skip
    others = {"f": (TensorProto.FLOAT, []), "z": (TensorProto.BFLOAT16, []), "i": (TensorProto.INT64, ["M"])}
    outputs = {"y": NARROW, "g": others["f"], "j": others["i"], "n": others["z"]}
    return start("--model", graph(nodes, {"x": NARROW, **others}, outputs)).ready()


@pytest.fixture(scope="module")
def alone(start, graph):
    """y = x, bfloat16."""
    return start("--model", graph([helper.make_node("Identity", ["x"], ["y"])], {"x": NARROW}, {"y": NARROW})).ready()


def test_json(server):
    """In JSON they are numbers, rounded to the nearest; the other inputs and outputs are as ever."""
    reply = server.ask(body={"x": [[1.00390625, -1], [0.1, 3e38]], "f": 0.25, "z": -7, "i": [1, 2]})
    narrow = np.array([[1.0, 0], [0.1, 3e38]]).astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(np.array(reply.json["y"], np.float32), narrow)
    assert (reply.json["g"], reply.json["j"], reply.json["n"]) == (0.25, [1, 2], -7)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1, 3.4e38]], "too large for bfloat16"), ([["a", 1]], "got strings"), ([[1]], "expected bfloat16[N, 2]"),
    ],
)  # fmt: skip
def test_wrong_rows(server, rows, said):
    """What is no bfloat16 is refused, with what was expected."""
    reply = server.ask(body={"x": rows, "f": 0, "z": 0, "i": []})
    assert (reply.status, said in reply.json["message"]) == (400, True), reply.json


def test_example(server):
    """The document describes numbers, and its example is answered."""
    content = server.ask("/swagger.json").json["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    assert content["schema"]["properties"]["x"]["items"]["items"]["type"] == "number"
    assert server.ask(body=content["example"]).status == 200


def test_bytes(alone):
    """As bytes they are two each, and come back bit by bit, NaN and infinities too."""
    sent = np.array([[1.5, np.nan], [-np.inf, 1e-40]], ml_dtypes.bfloat16)
    kind = "application/octet-stream"
    reply = alone.ask(body=sent.tobytes(), headers={"content-type": kind, "accept": kind})
    assert (reply.headers["x-tensor-shape"], reply.headers["x-tensor-type"]) == ("2,2", "bfloat16")
    assert reply.body == sent.tobytes()
    assert alone.ask(body=b"123", headers={"content-type": kind}).status == 400


def test_inference_protocol(alone):
    """The Open Inference Protocol calls them BF16, and has their bytes behind its JSON."""
    assert alone.ask("/v2/models/graph").json["inputs"] == [{"name": "x", "datatype": "BF16", "shape": [-1, 2]}]
    sent = np.array([[1.5, -2]], ml_dtypes.bfloat16).tobytes()
    one = {"name": "x", "shape": [1, 2], "datatype": "BF16", "parameters": {"binary_data_size": len(sent)}}
    head = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    reply = alone.ask("/v2/models/graph/infer", head + sent, headers=length)
    size = int(reply.headers["inference-header-content-length"])
    (output,) = json.loads(reply.body[:size])["outputs"]
    assert (output["datatype"], output["shape"], reply.body[size:]) == ("BF16", [1, 2], sent)


def test_beside_strings(start, graph):
    """A graph that has strings as well cannot be served without code, and says so when it is loaded."""
    texts = (TensorProto.STRING, ["N"])
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["s"], ["t"])]
    server = start("--model", graph(nodes, {"x": NARROW, "s": texts}, {"y": NARROW, "t": texts}))
    assert server.wait() == 3
    assert "it has bfloat16 beside string" in server.log.splitlines()[-1]
