"""A graph served without code, over a real Unix socket."""

import json
import os
import stat
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from modules.examples import digits
from modules.scoring.memory import CGROUP, used_mb

DIGITS = Path(digits.__file__).parent
SAMPLES = json.loads((DIGITS / "digit.json").read_text())


@pytest.fixture(scope="module")
def server(start):
    return start("--model", DIGITS / "digits.onnx").ready()


def test_digits(server):
    """Real images that the network was not trained on are recognised, rows in one request."""
    reply = server.ask(body={"data": [one["pixels"] for one in SAMPLES]})
    assert reply.status == 200
    right = [got == one["digit"] for got, one in zip(reply.json["label"], SAMPLES, strict=True)]
    assert sum(right) >= len(SAMPLES) - 1
    assert all(abs(sum(row) - 1) < 1e-4 for row in reply.json["probabilities"])


def test_the_graphs_own_names(server):
    """The graph's own input name works as well as ``data``."""
    rows = [SAMPLES[0]["pixels"]]
    assert server.ask(body={"pixels": rows}).json == server.ask(body={"data": rows}).json


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param(
            {"data": [[1, 2]]}, "expected float32[?, 64], got shape [1, 2]", id="when a row is short it says so"
        ),
        pytest.param({"data": [1.0] * 64}, "got shape [64]", id="when a dimension is missing it says so"),
        pytest.param({"data": [["a"] * 64]}, "got strings", id="when text stands for numbers it is refused"),
        pytest.param({"data": [["1"] * 64]}, "got strings", id="when numbers stand in quotes they are refused"),
        pytest.param({"data": [[True] * 64]}, "got booleans", id="when booleans stand for numbers it is refused"),
        pytest.param({"data": [[1, 2], [1]]}, "nested unevenly", id="when rows differ in length it says so"),
        pytest.param({"data": [[1e300] * 64]}, "too large for float32", id="when a number overflows it is refused"),
        pytest.param(
            {"images": [[1]]}, "the keys pixels, got keys images", id="when the name is wrong it names the right one"
        ),
        pytest.param({"data": [[]]}, "got shape [1, 0]", id="when a row is empty it says so"),
        pytest.param({}, "got keys (none)", id="when the object is empty it says so"),
        pytest.param([[1.0] * 64], "got no object", id="when it is no object it says so"),
        pytest.param(b"{", "the body is not valid JSON", id="when it is no JSON it says so"),
        pytest.param(b"", "the body is not valid JSON", id="when it is empty it says so"),
    ],
)
def test_bad_input(server, body, said):
    """When a body is not what the graph takes, the answer is 400 and says what was expected and found."""
    reply = server.ask(body=body, method="POST")
    assert reply.status == 400
    assert said in reply.json["message"]


def test_no_rows(start, relu):
    """A batch of no rows has an answer of none, as one that arrives in bytes has."""
    server = start("--model", relu).ready()
    assert server.ask(body={"data": []}).json == {"y": []}
    assert server.ask(body={"x": []}).json == {"y": []}
    raw = {"content-type": "application/octet-stream"}
    assert server.ask(body=b"", headers=raw, method="POST").json == {"y": []}


def test_numbers_as_python_writes_them(start, relu):
    """``NaN`` and ``Infinity``, which JSON does not know and Python writes, are read; what is broken is not."""
    server = start("--model", relu).ready()
    for size in (1, 5000):  # short bodies and long ones are read by other means
        row = f"[{', '.join(['[NaN, -Infinity, Infinity, 1.5]'] * size)}]"
        assert server.ask(body=f'{{"data": {row}}}'.encode()).json == {"y": [[None, 0, None, 1.5]] * size}
        reply = server.ask(body=f'{{"data": {row}'.encode())
        assert (reply.status, "not valid JSON" in reply.json["message"]) == (400, True)


def test_status(server):
    """The status names what is really in use, not only what was asked for."""
    status = server.ask("/edgefleet/status").json
    assert status["ready"] is True
    assert status["kind"] == "onnx"
    assert status["module"] is None
    assert status["providers_requested"] == ["CPUExecutionProvider"]
    assert status["provider_in_use"] == "CPUExecutionProvider"
    assert status["onnxruntime"].count(".") == 2
    assert status["load_seconds"] > 0
    assert (status["memory_mb"] is None) == (used_mb(CGROUP) is None)


@pytest.mark.parametrize("version", ["2", "3", "3.1"])
def test_swagger_example_runs(server, version):
    """Each version of the OpenAPI document has an example that is answered with 200."""
    document = server.ask(f"/swagger.json?version={version}").json
    assert (document.get("swagger") or document["openapi"]).startswith(version)
    operation = document["paths"]["/score"]["post"]
    if version == "2":
        example = operation["parameters"][0]["schema"]["example"]
    else:
        example = operation["requestBody"]["content"]["application/json"]["example"]
    assert server.ask(body=example).status == 200


def test_inference_protocol_metadata(server):
    """The Open Inference Protocol finds health and the model's tensors."""
    assert server.ask("/v2/health/live").json == {"live": True}
    assert server.ask("/v2/health/ready").json == {"ready": True}
    model = server.ask("/v2/models/digits").json
    assert model["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
    assert [one["datatype"] for one in model["outputs"]] == ["INT64", "FP32"]
    assert server.ask("/v2/models/other").status == 404


def test_metrics(server):
    """Requests, their codes and their time can be scraped."""
    server.ask(body={"data": [SAMPLES[0]["pixels"]]})
    text = server.ask("/metrics").body.decode()
    assert 'edgefleet_scoring_requests_total{code="200"}' in text
    assert 'edgefleet_scoring_seconds_bucket{le="+Inf"}' in text


def test_health(server):
    """Health is the text that Azure Machine Learning's server answers, to GET and HEAD."""
    assert server.ask("/").body == b"Healthy"
    head = server.ask("/", method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_request_id(server):
    """A given request id comes back, and one is made where none was given."""
    given = server.ask("/", headers={"x-request-id": "abc", "x-ms-request-id": "client", "TraceId": "t"}).headers
    assert (given["x-request-id"], given["x-ms-client-request-id"], given["traceid"]) == ("abc", "client", "t")
    made = server.ask("/", headers={"x-request-id": ""}).headers
    assert made["x-request-id"] == made["x-ms-request-id"]
    assert "x-ms-client-request-id" not in made


@pytest.mark.parametrize("path", ["/", "/score", "/nowhere"])
def test_overlong_request_id(server, path):
    """A request id over 100 characters is refused on every path, and not sent back."""
    reply = server.ask(path, headers={"x-request-id": "a" * 101})
    assert reply.status == 431
    assert "x-request-id" not in reply.headers


def test_other_methods_and_paths(server):
    """What is not there is 404, what is not allowed 405 with the methods that are, both as JSON messages."""
    assert "nothing at /nowhere" in server.ask("/nowhere").json["message"]
    reply = server.ask(method="PUT", body=b"{}")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, POST, OPTIONS")


def test_run_time_header(server):
    """An answer says how long the model's own code ran."""
    assert float(server.ask(body={"data": [SAMPLES[0]["pixels"]]}).headers["x-ms-run-fn-exec-ms"]) > 0


def test_socket_mode(server):
    """Only owner and group can connect to the socket."""
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o660


def test_many_types(start, graph):
    """Every element type that JSON can carry goes in and comes out by the graph's own names."""
    kinds = {
        "i": (TensorProto.INT64, [3, -4], [3, -4]), "u": (TensorProto.UINT8, [0, 255], [0, 255]),
        "b": (TensorProto.BOOL, [True, False], [True, False]), "s": (TensorProto.STRING, ["a", "é"], ["a", "é"]),
        "d": (TensorProto.DOUBLE, [0.1, None], [0.1, None]), "h": (TensorProto.FLOAT16, [0.5, 2], [0.5, 2.0]),
        "w": (TensorProto.INT32, [2.0, 1.0], [2, 1]),
    }  # fmt: skip
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kinds]
    inputs = {name: (kind, ["N"]) for name, (kind, *_) in kinds.items()}
    server = start("--model", graph(nodes, inputs, {f"{name}_out": kind for name, kind in inputs.items()})).ready()
    reply = server.ask(body={name: sent for name, (_, sent, _) in kinds.items()})
    assert reply.json == {f"{name}_out": expected for name, (_, _, expected) in kinds.items()}
    good = {name: sent for name, (_, sent, _) in kinds.items()}
    for change, said in [
        ({"u": [0, 256]}, "outside 0 to 255"), ({"i": [1.5, 1]}, "got fractions"), ({"s": [1, "a"]}, "mixed"),
        ({"b": [1, 0]}, "got integers"), ({"i": [None, 1]}, "mixed values"), ({"d": ["1", None]}, "mixed values"),
    ]:  # fmt: skip
        reply = server.ask(body=good | change)
        assert (reply.status, said in reply.json["message"]) == (400, True), reply.json


def test_classifier_with_zipmap(start, graph):
    """The sequence of maps that a scikit-learn classifier gives becomes a list of objects."""
    zipmap = helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"])
    value = helper.make_tensor_value_info("p", TensorProto.FLOAT, None)
    mapped = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    value.type.CopyFrom(helper.make_sequence_type_proto(mapped))
    path = graph(
        [zipmap], {"x": (TensorProto.FLOAT, ["N", 2])}, {}, domains=(("", 17), ("ai.onnx.ml", 1)), more=[value]
    )
    server = start("--model", path).ready()
    assert server.ask(body={"data": [[0.25, 0.75]]}).json == {"p": [{"cat": 0.25, "dog": 0.75}]}


def test_timeout_stops_the_run(start, graph):
    """A run that takes longer than the time-out is stopped, and the server goes on."""
    inside = {"n": TensorProto.INT64, "go": TensorProto.BOOL, "v": TensorProto.FLOAT}
    after = {"on": TensorProto.BOOL, "w": TensorProto.FLOAT}
    sides = [[helper.make_tensor_value_info(*one, []) for one in side.items()] for side in (inside, after)]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["v"], ["w"])]
    body = helper.make_graph(nodes, "body", *sides)
    loop = helper.make_node("Loop", ["times", "", "x"], ["y"], body=body)
    path = graph(
        [loop], {"times": (TensorProto.INT64, []), "x": (TensorProto.FLOAT, [])}, {"y": (TensorProto.FLOAT, [])}
    )
    server = start("--model", path, EDGEFLEET_SETTINGS='{"score_timeout_ms": 300}').ready()
    busy = server.later(body={"times": 1 << 60, "x": 1.0})
    assert server.ask("/").status == 200
    reply = busy()
    assert (reply.status, reply.headers["x-ms-run-function-failed"]) == (500, "True")
    assert "stopped after 0.3 s" in reply.json["message"]
    assert server.ask(body={"times": 1, "x": 0.0}).json == {"y": 0.0}


def test_taking_over_the_socket(start, relu):
    """A stale socket is replaced, and a live one is not taken away."""
    first = start("--model", relu).ready()
    first.process.kill()
    first.wait()
    assert first.socket.is_socket()
    second = start("--model", relu, folder=first.socket.parent).ready()
    third = start("--model", relu, folder=first.socket.parent)
    assert third.wait() == 1
    assert "another server is answering there" in third.log
    assert second.ask("/").status == 200
    assert second.stop() == 0
    assert not second.socket.exists()


def test_overlarge_body(server):
    """A body over the limit is refused by its announced length, before it is sent."""
    reply = server.ask(method="POST", body=b"", headers={"content-length": str(101 << 20)})
    assert (reply.status, reply.headers["connection"]) == (413, "close")


def test_chunked_body(server):
    """A body without an announced length is read to its end."""
    text = json.dumps({"data": [one["pixels"] for one in SAMPLES]}).encode()
    reply = server.ask(body=iter([text[:100], text[100:5000], text[5000:]]))
    assert len(reply.json["label"]) == len(SAMPLES)


@pytest.mark.needs("root")
def test_group_of_the_socket(start, relu, tmp_path):
    """In a setgid folder the socket gets the folder's group, so that the gateway can connect."""
    os.chown(tmp_path, -1, 12345)
    tmp_path.chmod(0o2770)
    server = start("--model", relu, folder=tmp_path).ready()
    assert server.socket.stat().st_gid == 12345
