"""The Open Inference Protocol, version 2, through a real socket: JSON, bytes, metadata, repository."""

import json
import struct

import numpy as np
import pytest
from onnx import TensorProto, helper

KINDS = {
    "BOOL": (TensorProto.BOOL, np.bool_, [True, False]),
    "INT8": (TensorProto.INT8, np.int8, [-128, 127]),
    "INT16": (TensorProto.INT16, np.int16, [-32768, 5]),
    "INT32": (TensorProto.INT32, np.int32, [-(1 << 31), 5]),
    "INT64": (TensorProto.INT64, np.int64, [-(1 << 63), (1 << 63) - 1]),
    "UINT8": (TensorProto.UINT8, np.uint8, [0, 255]),
    "UINT16": (TensorProto.UINT16, np.uint16, [0, 65535]),
    "UINT32": (TensorProto.UINT32, np.uint32, [0, (1 << 32) - 1]),
    "UINT64": (TensorProto.UINT64, np.uint64, [0, (1 << 64) - 1]),
    "FP16": (TensorProto.FLOAT16, np.float16, [0.5, -2.0]),
    "FP32": (TensorProto.FLOAT, np.float32, [0.25, -3.5]),
    "FP64": (TensorProto.DOUBLE, np.float64, [0.1, -1e300]),
    "BYTES": (TensorProto.STRING, object, ["a", "é"]),
}


@pytest.fixture(scope="module")
def server(start, graph):
    """A graph that gives back one input of every type the protocol has."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in KINDS]
    inputs = {name: (kind, ["N"]) for name, (kind, *_) in KINDS.items()}
    path = graph(nodes, inputs, {f"{name}_out": kind for name, kind in inputs.items()})
    return start("--model", path).ready()


@pytest.fixture(scope="module")
def pair(start, graph):
    """Two inputs and two outputs: sum = a + b, difference = a - b, float32 [N, 2]."""
    shape = (TensorProto.FLOAT, ["N", 2])
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    return start("--model", graph(nodes, {"a": shape, "b": shape}, {"sum": shape, "difference": shape})).ready()


@pytest.fixture(scope="module")
def line(start, relu):
    return start("--model", relu).ready()


def infer(server, document, *parts, headers=None, model="graph"):
    head = json.dumps(document).encode()
    given = {"Inference-Header-Content-Length": str(len(head))} if parts else {}
    return server.ask(f"/v2/models/{model}/infer", b"".join((head, *parts)), headers=given | (headers or {}))


def tensor(name, values, datatype="FP32", shape=None, **more):
    return {"name": name, "shape": shape or [len(values)], "datatype": datatype, "data": values, **more}


def raw(name, array, datatype="FP32"):
    data = array.tobytes()
    return {
        "name": name, "shape": list(array.shape), "datatype": datatype, "parameters": {"binary_data_size": len(data)},
    }, data  # fmt: skip


def unpack(reply):
    """The JSON of a binary answer, and the bytes of each output by name."""
    length = int(reply.headers["inference-header-content-length"])
    document, rest, found = json.loads(reply.body[:length]), reply.body[length:], {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            found[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return document, found


def text(values):
    return b"".join(struct.pack("<I", len(one.encode())) + one.encode() for one in values)


def all_inputs():
    return [tensor(name, values, name) for name, (_, _, values) in KINDS.items()]


@pytest.mark.parametrize("name", KINDS)
def test_json_round_trip(server, name):
    """Every datatype goes in and comes out as JSON with its own name, shape and values."""
    reply = infer(server, {"inputs": all_inputs(), "outputs": [{"name": f"{name}_out"}]})
    assert reply.status == 200, reply.body
    assert reply.json["outputs"] == [tensor(f"{name}_out", KINDS[name][2], name)]


@pytest.mark.parametrize("name", KINDS)
def test_binary_round_trip(server, name):
    """Every datatype goes in and comes out as bytes, beside inputs in JSON."""
    _, dtype, values = KINDS[name]
    data = text(values) if name == "BYTES" else np.array(values, dtype).tobytes()
    mine = {"name": name, "shape": [2], "datatype": name, "parameters": {"binary_data_size": len(data)}}
    inputs = [mine if one["name"] == name else one for one in all_inputs()]
    outputs = [{"name": f"{name}_out", "parameters": {"binary_data": True}}]
    document, found = unpack(infer(server, {"inputs": inputs, "outputs": outputs}, data))
    assert found == {f"{name}_out": data}
    assert document["outputs"][0]["datatype"] == name


def test_identity_and_names(line):
    """The answer names the model, its version and the caller's id."""
    reply = infer(line, {"id": "mine", "inputs": [tensor("x", [1, -1, 2, -2], shape=[1, 4])]})
    assert {key: reply.json[key] for key in ("id", "model_name", "model_version")} == {
        "id": "mine", "model_name": "graph", "model_version": "1",
    }  # fmt: skip
    assert reply.json["outputs"] == [tensor("y", [1, 0, 2, 0], shape=[1, 4])]


def test_nested_values(line):
    """Values may be nested as their shape is, or flat."""
    nested = infer(line, {"inputs": [tensor("x", [[1, -1, 2, -2], [0, 0, 0, 9]], shape=[2, 4])]})
    assert nested.json["outputs"][0]["data"] == [1, 0, 2, 0, 0, 0, 0, 9]


def test_version_in_the_path(line):
    """The model's version can be named, and another is not there."""
    document = {"inputs": [tensor("x", [0] * 4, shape=[1, 4])]}
    assert line.ask("/v2/models/graph/versions/1/infer", document).status == 200
    assert line.ask("/v2/models/graph/versions/2/infer", document).status == 404


def test_mixed_inputs_and_outputs(pair):
    """One input as bytes and one as JSON; one output as bytes and one as JSON; in the order that was asked for."""
    ones = np.ones((2, 2), np.float32)
    head, data = raw("a", ones)
    outputs = [{"name": "difference", "parameters": {"binary_data": True}}, {"name": "sum"}]
    reply = infer(pair, {"inputs": [head, tensor("b", [1, 2, 3, 4], shape=[2, 2])], "outputs": outputs}, data)
    document, found = unpack(reply)
    assert [one["name"] for one in document["outputs"]] == ["difference", "sum"]
    assert np.frombuffer(found["difference"], np.float32).tolist() == [0, -1, -2, -3]
    assert document["outputs"][1]["data"] == [2, 3, 4, 5]


def test_all_outputs_as_bytes(pair):
    """``binary_data_output`` asks for every output as bytes, one of which may still be JSON."""
    inputs = [tensor(name, [1, 2], shape=[1, 2]) for name in "ab"]
    document, found = unpack(infer(pair, {"inputs": inputs, "parameters": {"binary_data_output": True}}))
    assert found.keys() == {"sum", "difference"}
    outputs = [{"name": "sum"}, {"name": "difference", "parameters": {"binary_data": False}}]
    asked = {"inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": True}}
    document, found = unpack(infer(pair, asked))
    assert found.keys() == {"sum"}
    assert document["outputs"][1]["data"] == [0, 0]


def test_bytes_without_json(line):
    """A header length of 0 is the bytes of the only input, in the shape that follows from their number."""
    data = np.array([1, -1, 2, -2, 3, 3, 3, -3], np.float32).tobytes()
    reply = line.ask("/v2/models/graph/infer", data, headers={"Inference-Header-Content-Length": "0"})
    document, found = unpack(reply)
    assert document["outputs"][0]["shape"] == [2, 4]
    assert np.frombuffer(found["y"], np.float32).tolist() == [1, 0, 2, 0, 3, 3, 3, 0]


def test_large_body(line):
    """A large body gives the same in JSON, flat and nested, and in bytes."""
    values = np.random.default_rng(1).normal(size=(5000, 4)).astype(np.float32)
    head, data = raw("x", values)
    _, found = unpack(infer(line, {"inputs": [head], "parameters": {"binary_data_output": True}}, data))
    expected = np.maximum(values, 0)
    np.testing.assert_array_equal(np.frombuffer(found["y"], np.float32).reshape(5000, 4), expected)
    for listed in (values.tolist(), values.ravel().tolist()):
        reply = infer(line, {"inputs": [tensor("x", listed, shape=[5000, 4])]})
        np.testing.assert_array_equal(np.array(reply.json["outputs"][0]["data"], np.float32), expected.ravel())


GOOD = tensor("x", [0, 0, 0, 0], shape=[1, 4])
EMPTY = tensor("x", [], shape=[0, 4])
SHORT = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 12}}


@pytest.mark.parametrize(
    ("document", "parts", "said"),
    [
        pytest.param({}, (), "a list called inputs", id="when there are no inputs"),
        pytest.param({"inputs": []}, (), "expected the inputs x, got none called x", id="when an input is missing"),
        pytest.param({"inputs": [GOOD, GOOD]}, (), "expected the inputs x, got 'x'", id="when an input comes twice"),
        pytest.param({"inputs": [GOOD | {"name": "z"}]}, (), "expected the inputs x, got 'z'", id="when it is unknown"),
        pytest.param({"inputs": ["x"]}, (), "expected the inputs x, got None", id="when it is no object"),
        pytest.param({"inputs": [GOOD | {"datatype": "FP64"}]}, (), "expected FP32, got 'FP64'", id="of another type"),
        pytest.param({"inputs": [GOOD | {"shape": [1, 3]}]}, (), "expected 3 values", id="when there are too many"),
        pytest.param(
            {"inputs": [GOOD | {"shape": [2, 2]}]}, (), "expected float32[N, 4], got shape [2, 2]", id="shape"
        ),
        pytest.param({"inputs": [GOOD | {"shape": [-1, 4]}]}, (), "a list of lengths", id="when a length is negative"),
        pytest.param({"inputs": [GOOD | {"shape": [1] * 65, "data": [1]}]}, (), "65 dimensions", id="of 65 dimensions"),
        pytest.param({"inputs": [EMPTY | {"shape": [0, 2**62]}]}, (), "2 dimensions", id="beside nothing too long"),
        pytest.param({"inputs": [EMPTY | {"shape": [0, 2**63]}]}, (), "2 dimensions", id="beside nothing far too long"),
        pytest.param(
            {"inputs": [SHORT | {"shape": [1] * 65, "parameters": {"binary_data_size": 4}}]},
            (b"\0" * 4,),
            "65 dimensions",
            id="when bytes have 65 dimensions",
        ),
        pytest.param(
            {"inputs": [SHORT | {"parameters": {"binary_data_size": True}}]},
            (b"\0",),
            "got True",
            id="when the size is no number",
        ),
        pytest.param({"inputs": [GOOD | {"shape": "1"}]}, (), "a list of lengths", id="when the shape is no list"),
        pytest.param({"inputs": [GOOD | {"data": 5}]}, (), "a list called data", id="when the data is no list"),
        pytest.param({"inputs": [GOOD | {"data": ["1"] * 4}]}, (), "got strings", id="when numbers are in quotes"),
        pytest.param({"inputs": [GOOD | {"data": [[1, 2], [3]]}]}, (), "nested unevenly", id="when it is uneven"),
        pytest.param({"inputs": [GOOD | {"parameters": 1}]}, (), "an object called parameters", id="bad parameters"),
        pytest.param({"inputs": [GOOD], "id": 5}, (), "id: expected a string", id="when the id is no string"),
        pytest.param({"inputs": [GOOD], "outputs": [{"name": "q"}]}, (), "expected some of y, got 'q'", id="output"),
        pytest.param({"inputs": [SHORT]}, (b"\0" * 12,), "expected 16 bytes", id="when bytes and shape disagree"),
        pytest.param(
            {"inputs": [SHORT]}, (b"\0" * 8,), "the 8 bytes that are left, got 12", id="when bytes are missing"
        ),
        pytest.param({"inputs": [GOOD]}, (b"\0",), "1 bytes are left", id="when bytes are left over"),
    ],
)
def test_bad_request(line, document, parts, said):
    """What is not the protocol, or not what the graph takes, is 400 with what was expected and found."""
    reply = infer(line, document, *parts)
    assert reply.status == 400
    assert said in reply.json["error"]


@pytest.mark.parametrize("length", ["-1", "many", "99999999", "0" * 5000 + "2", "9" * 5000, "\u00b2", "1_0"])
def test_bad_header_length(line, length):
    """A header length that is none, or leads out of the body, is refused."""
    reply = line.ask("/v2/models/graph/infer", b"{}", headers={"Inference-Header-Content-Length": length})
    assert reply.status == 400
    assert "Inference-Header-Content-Length" in reply.json["error"]


def test_cut_strings(server):
    """Strings whose lengths lead out of their bytes, or that are not UTF-8, are refused."""
    for data, said in [(b"\1\0", "is cut short"), (b"\5\0\0\0ab", "of 5 bytes is cut"), (b"\1\0\0\0\xff", "UTF-8")]:
        size = {"binary_data_size": len(data)}
        mine = {"name": "BYTES", "shape": [1], "datatype": "BYTES", "parameters": size}
        inputs = [mine if one["name"] == "BYTES" else one for one in all_inputs()]
        reply = infer(server, {"inputs": inputs}, data)
        assert (reply.status, said in reply.json["error"]) == (400, True), reply.json


def test_malformed_json(line):
    """A body that is no JSON is 400 in the protocol's form."""
    reply = line.ask("/v2/models/graph/infer", b"{")
    assert (reply.status, "not valid JSON" in reply.json["error"]) == (400, True)


def test_null_is_absent(line):
    """``null`` for the id, for parameters and outputs is as if they were not there."""
    given = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4], "parameters": None}
    reply = line.ask("/v2/models/graph/infer", {"id": None, "parameters": None, "outputs": None, "inputs": [given]})
    assert reply.status == 200, reply.body
    assert "id" not in reply.json


def test_server_metadata(line):
    """The server names its extensions, and for each model the provider that was asked for and the one in use."""
    found = line.ask("/v2").json
    assert found["name"] == "edgefleet"
    assert "binary_tensor_data" in found["extensions"]
    assert found["parameters"]["graph"]["provider_in_use"] == "CPUExecutionProvider"
    assert found["parameters"]["graph"]["providers_requested"] == ["CPUExecutionProvider"]


def test_model_metadata(pair):
    """A model names its tensors in the protocol's types, free dimensions as -1."""
    found = pair.ask("/v2/models/graph").json
    assert found["inputs"] == [{"name": name, "datatype": "FP32", "shape": [-1, 2]} for name in "ab"]
    assert [one["name"] for one in found["outputs"]] == ["sum", "difference"]
    assert (found["platform"], found["versions"]) == ("onnxruntime_onnx", ["1"])
    assert pair.ask("/v2/models/graph/ready").json == {"name": "graph", "ready": True}


def test_methods_and_paths(line):
    """Other methods are 405 and other paths 404, in the protocol's form."""
    assert line.ask("/v2/models/graph/infer").status == 405
    assert [line.ask(f"/v2/health/{one}", method="DELETE").status for one in ("live", "ready")] == [405, 405]
    assert line.ask("/v2", b"{}").json == {"error": "POST is not allowed here"}
    missing = line.ask("/v2/models/other/infer", b"{}")
    assert (missing.status, missing.json["error"]) == (404, "there is nothing at /v2/models/other/infer; models: graph")


def test_repository(start, relu):
    """A model is listed, unloaded, refused while it is out, and loaded again."""
    server = start("--model", relu).ready()
    index = server.ask("/v2/repository/index", b"{}")
    assert index.json == [{"name": "graph", "version": "1", "state": "READY", "reason": ""}]
    assert server.ask("/v2/repository/models/graph/unload", b"").status == 200
    assert server.ask("/v2/repository/index", b"").json[0] | {"reason": ""} == index.json[0] | {"state": "UNAVAILABLE"}
    assert server.ask("/v2/repository/index", {"ready": True}).json == []
    for path in ("/v2/health/ready", "/v2/models/graph/ready"):
        assert server.ask(path).status == 503
    assert infer(server, {"inputs": [GOOD]}).status == 503
    assert server.ask(body={"data": [[0] * 4]}).status == 503
    assert server.ask("/v2/repository/models/graph/load", b"").status == 200
    assert infer(server, {"inputs": [GOOD]}).status == 200
    assert server.ask("/v2/repository/models/other/load", b"").status == 404


def test_entry_script_has_no_tensors(start, script):
    """An entry script is not asked in tensors, and the answer says where it is."""
    server = start("--script", script("def run(data): return data")).ready()
    reply = infer(server, {"inputs": []}, model="score")
    assert (reply.status, reply.json["error"]) == (400, "score: an entry script is asked at /score")


def test_sequences_and_maps(start, cat_or_dog):
    """What is no tensor comes as one JSON text for each element."""
    reply = infer(start("--model", cat_or_dog).ready(), {"inputs": [tensor("x", [0.25, 0.75], shape=[1, 2])]})
    (output,) = reply.json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1])
    assert json.loads(output["data"][0]) == {"cat": 0.25, "dog": 0.75}
