"""The gRPC port asked by tritonclient, the client that others use, in an environment of its own.

It wants an older protobuf than ONNX does, so it is no package of ours.
"""

import json
import os
import subprocess

import pytest
from onnx import TensorProto, helper

from tests.parts.environments import environment
from tests.parts.pace import stretched

pytestmark = pytest.mark.long

PACKAGE = "tritonclient[grpc]==2.73.0"
# Each test's lines are behind these; what they leave in `told` comes back.
BEGIN = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

client = triton.InferenceServerClient("127.0.0.1:" + sys.argv[1])
told = {}

def given(name, array, datatype):
    one = triton.InferInput(name, list(array.shape), datatype)
    one.set_data_from_numpy(array)
    return one

def refusal(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except InferenceServerException as error:
        return [error.status(), error.message()]
"""
KINDS = {
    "BOOL": TensorProto.BOOL, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32, "UINT64": TensorProto.UINT64, "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "BYTES": TensorProto.STRING,
}  # fmt: skip


@pytest.fixture(scope="module")
def python():
    """A Python with tritonclient, made once below .cache; the tests are skipped where pip cannot get it."""
    try:
        return str(environment("tritonclient", PACKAGE))
    except RuntimeError as error:
        if os.environ.get("EDGEFLEET_REQUIRE") == "all":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def ask(python, start, graph, free_port):
    """Run lines that ask a server of a graph with an input of every type, and give what they told."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in KINDS]
    inputs = {name: (kind, ["N", 2]) for name, kind in KINDS.items()}
    path = graph(nodes, inputs, {f"{name}_out": side for name, side in inputs.items()})
    port = free_port()
    start("--model", path, "--grpc-port", port, tcp=free_port()).ready()

    def run(lines):
        command = [python, "-c", f"{BEGIN}\n{lines}\nprint(json.dumps(told))", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=stretched(60), check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_every_type(ask):
    """Each datatype goes through ``set_data_from_numpy`` and comes back from ``as_numpy`` as it was."""
    told = ask(f"""
arrays = {{}}
for name in {list(KINDS)}:
    if name == "BYTES":
        arrays[name] = np.array([["a", "é"], ["", "日本"]], dtype=object)
    else:
        dtype = triton_to_np_dtype(name)
        arrays[name] = np.array([[0, 1], [1, 0]], dtype) if name == "BOOL" else np.array([[0, 1], [2, 100]], dtype)
result = client.infer("graph", [given(name, one, name) for name, one in arrays.items()], request_id="mine")
for name, one in arrays.items():
    found = result.as_numpy(f"{{name}}_out")
    if name == "BYTES":
        found = np.array([text.decode() for text in found.ravel()], dtype=object).reshape(found.shape)
    told[name] = bool(np.array_equal(found, one)) and found.dtype == one.dtype and result.get_response().id == "mine"
""")
    assert told == dict.fromkeys(KINDS, True)


def test_health_and_metadata(ask):
    """Life, readiness and what server and model are, as this client reads them."""
    told = ask("""
told["live"] = [client.is_server_live(), client.is_server_ready(), client.is_model_ready("graph", "1")]
told["server"] = client.get_server_metadata(as_json=True)
model = client.get_model_metadata("graph", as_json=True)
told["inputs"] = {one["name"]: [one["datatype"], one["shape"]] for one in model["inputs"]}
""")
    assert told["live"] == [True] * 3
    assert (told["server"]["name"], told["server"]["extensions"]) == ("edgefleet", ["model_repository"])
    assert told["inputs"] == {name: [name, ["-1", "2"]] for name in KINDS}


def test_repository(ask):
    """A model is listed, unloaded and loaded by this client's calls."""
    told = ask("""
def states():
    listed = client.get_model_repository_index(as_json=True)["models"]
    return [[one["name"], one["version"], one["state"]] for one in listed]
told["before"] = states()
client.unload_model("graph")
told["after"] = states()
told["refused"] = refusal(client.infer, "graph", [])
client.load_model("graph")
told["again"] = states()
""")
    assert told["before"] == told["again"] == [["graph", "1", "READY"]]
    assert told["after"] == [["graph", "1", "UNAVAILABLE"]]
    assert told["refused"] == ["StatusCode.UNAVAILABLE", "graph: the model is not loaded (load it, or try again later)"]


def test_errors(ask):
    """Mistakes come as this client's exceptions, with our words."""
    told = ask("""
one = given("FP32", np.zeros((1, 2), np.float32), "FP32")
told["model"] = refusal(client.infer, "other", [one])
told["version"] = refusal(client.infer, "graph", [one], model_version="9")
told["missing"] = refusal(client.infer, "graph", [one])
told["type"] = refusal(client.infer, "graph", [given("FP64", np.zeros((1, 2), np.float32), "FP32")])
told["nothing"] = refusal(client.get_model_config, "graph")
""")
    assert told["model"] == ["StatusCode.NOT_FOUND", "there is no model 'other'; models: graph"]
    assert told["version"] == ["StatusCode.NOT_FOUND", "graph has no version '9'; versions: 1"]
    assert told["missing"][0] == "StatusCode.INVALID_ARGUMENT"
    assert "got none called BOOL" in told["missing"][1]
    assert told["type"] == ["StatusCode.INVALID_ARGUMENT", "FP64.datatype: expected FP64, got 'FP32'"]
    assert told["nothing"][0] == "StatusCode.UNIMPLEMENTED"


def test_asynchronous(ask):
    """Its calls that return at once are answered too, many at a time."""
    told = ask(f"""
import threading
zeros = {{name: np.full((1, 2), "0" if name == "BYTES" else 0, triton_to_np_dtype(name)) for name in {list(KINDS)}}}
inputs = [given(name, one, name) for name, one in zeros.items()]
found, done = [], threading.Event()
def back(result, error):
    found.append([error is None, result is not None and result.as_numpy("FP32_out").tolist()])
    if len(found) == 50:
        done.set()
for _ in range(50):
    client.async_infer("graph", inputs, back, outputs=[triton.InferRequestedOutput("FP32_out")])
done.wait(30)
told["found"] = found
""")
    assert told["found"] == [[True, [[0, 0]]]] * 50
