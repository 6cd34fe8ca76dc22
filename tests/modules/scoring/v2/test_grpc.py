"""The Open Inference Protocol over gRPC, through a real socket: every call, every type, several models, mistakes."""

import json
import struct
from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import TensorProto, helper
from open_inference.grpc import protocol
from open_inference.grpc.service import GRPCInferenceServiceStub

from modules.manifest import ModelSet, OnnxGraph
from modules.scoring.v2.grpc_repository import IndexRequest, IndexResponse, ModelRequest

# The protocol's type -> ONNX's, NumPy's, the field of its values, and two of them.
KINDS = {
    "BOOL": (TensorProto.BOOL, np.bool_, "bool_contents", [True, False]),
    "INT8": (TensorProto.INT8, np.int8, "int_contents", [-128, 127]),
    "INT16": (TensorProto.INT16, np.int16, "int_contents", [-32768, 5]),
    "INT32": (TensorProto.INT32, np.int32, "int_contents", [-(1 << 31), 5]),
    "INT64": (TensorProto.INT64, np.int64, "int64_contents", [-(1 << 63), (1 << 63) - 1]),
    "UINT8": (TensorProto.UINT8, np.uint8, "uint_contents", [0, 255]),
    "UINT16": (TensorProto.UINT16, np.uint16, "uint_contents", [0, 65535]),
    "UINT32": (TensorProto.UINT32, np.uint32, "uint_contents", [0, (1 << 32) - 1]),
    "UINT64": (TensorProto.UINT64, np.uint64, "uint64_contents", [0, (1 << 64) - 1]),
    "FP16": (TensorProto.FLOAT16, np.float16, None, [0.5, -2.0]),
    "FP32": (TensorProto.FLOAT, np.float32, "fp32_contents", [0.25, -3.5]),
    "FP64": (TensorProto.DOUBLE, np.float64, "fp64_contents", [0.1, -1e300]),
    "BYTES": (TensorProto.STRING, object, "bytes_contents", ["a", "é"]),
}
TYPED = [name for name, (_, _, field, _) in KINDS.items() if field]


class Client:
    """What clients generated from the protocol do, and the repository's calls as Triton's clients send them."""

    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)])
        self.calls = GRPCInferenceServiceStub(self.channel)

    def infer(self, model, *inputs, raw=(), **more):
        request = protocol.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=raw, **more)
        return self.calls.ModelInfer(request, timeout=30)

    def index(self, **asked):
        ask = self.channel.unary_unary(
            "/inference.GRPCInferenceService/RepositoryIndex",
            request_serializer=IndexRequest.SerializeToString, response_deserializer=IndexResponse.FromString,
        )  # fmt: skip
        return {one.name: (one.version, one.state) for one in ask(IndexRequest(**asked), timeout=30).models}

    def bring(self, call, model):
        ask = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/RepositoryModel{call}",
            request_serializer=ModelRequest.SerializeToString,
        )  # fmt: skip
        return ask(ModelRequest(model_name=model), timeout=30)


@pytest.fixture(scope="module")
def serve(start, free_port):
    """Start a server with both ports; gives it and a client of the second."""
    clients = []

    def run(*arguments, **environment):
        port = free_port()
        server = start(*arguments, "--grpc-port", port, tcp=free_port(), **environment).ready()
        clients.append(Client(port))
        return server, clients[-1]

    yield run
    for client in clients:
        client.channel.close()


@pytest.fixture(scope="module")
def every(serve, graph):
    """A graph that gives back one input of every type the protocol has."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in KINDS]
    inputs = {name: (kind, ["N"]) for name, (kind, *_) in KINDS.items()}
    path = graph(nodes, inputs, {f"{name}_out": kind for name, kind in inputs.items()})
    return serve("--model", path)[1]


@pytest.fixture(scope="module")
def pair(serve, graph):
    """Two inputs and two outputs: sum = a + b, difference = a - b, float32 [N, 2]."""
    shape = (TensorProto.FLOAT, ["N", 2])
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    return serve("--model", graph(nodes, {"a": shape, "b": shape}, {"sum": shape, "difference": shape}))[1]


@pytest.fixture(scope="module")
def line(serve, relu):
    return serve("--model", relu)


def tensor(name, shape, datatype="FP32", **contents):
    more = {"contents": contents} if contents else {}
    return protocol.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, **more)


def raw(name):
    """The bytes of a type's two values."""
    _, dtype, _, values = KINDS[name]
    if name == "BYTES":
        return b"".join(struct.pack("<I", len(one.encode())) + one.encode() for one in values)
    return np.array(values, dtype).tobytes()


def refused(call, *arguments, **more):
    """The code and the text of a refusal."""
    with pytest.raises(grpc.RpcError) as error:
        call(*arguments, **more)
    return error.value.code(), error.value.details()


GOOD = {"fp32_contents": [1, -1, 2, -2]}


@pytest.mark.parametrize("name", KINDS)
def test_bytes_round_trip(every, name):
    """Every datatype goes in and comes out as bytes, with its own name and shape."""
    inputs = [tensor(one, [2], one) for one in KINDS]
    outputs = [{"name": f"{name}_out"}]
    answer = every.infer("graph", *inputs, raw=[raw(one) for one in KINDS], outputs=outputs)
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == (f"{name}_out", name, [2])
    assert list(answer.raw_output_contents) == [raw(name)]


def test_values(serve, graph):
    """Every datatype but FP16 goes in as values in the field of its type."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in TYPED]
    inputs = {name: (KINDS[name][0], ["N"]) for name in TYPED}
    path = graph(nodes, inputs, {f"{name}_out": side for name, side in inputs.items()})
    _, client = serve("--model", path)
    given = []
    for name in TYPED:
        values = [one.encode() for one in KINDS[name][3]] if name == "BYTES" else KINDS[name][3]
        given.append(tensor(name, [2], name, **{KINDS[name][2]: values}))
    answer = client.infer("graph", *given)
    assert dict(zip(TYPED, answer.raw_output_contents, strict=True)) == {name: raw(name) for name in TYPED}
    for name, field, value in (("INT8", "int_contents", 128), ("UINT16", "uint_contents", 65536)):
        wrong = [tensor(name, [2], name, **{field: [value, 0]}) if one.name == name else one for one in given]
        code, text = refused(client.infer, "graph", *wrong)
        assert (code, "is outside" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_no_values_of_half_precision(serve, graph):
    """FP16 has no field in the protocol, and the refusal says how to send it."""
    side = (TensorProto.FLOAT16, ["N"])
    _, client = serve("--model", graph([helper.make_node("Identity", ["x"], ["y"])], {"x": side}, {"y": side}))
    code, text = refused(client.infer, "graph", tensor("x", [2], "FP16", fp32_contents=[1, 2]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert text == "x: no field holds values of FP16 (send raw_input_contents)"
    assert client.infer("graph", tensor("x", [2], "FP16"), raw=[raw("FP16")]).raw_output_contents[0] == raw("FP16")


def test_identity_and_names(line):
    """The answer names the model, its version and the caller's id."""
    answer = line[1].infer("graph", tensor("x", [1, 4], **GOOD), id="mine", model_version="1")
    assert (answer.id, answer.model_name, answer.model_version) == ("mine", "graph", "1")
    assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [1, 0, 2, 0]
    assert line[1].infer("graph", tensor("x", [1, 4], **GOOD)).id == ""


def test_answers_are_looked_at(serve, relu):
    """What a gate asks of answers is known of those over gRPC, too."""
    server, client = serve("--model", relu)
    client.infer("graph", tensor("x", [1, 4], fp32_contents=[1.0, 2.0, 2.0, float("nan")]))
    found = server.ask("/edgefleet/status").json["answers"]

    assert (found["looked"], found["nan"], sum(found["values"])) == (1, 1, 3)


def test_outputs_in_the_order_asked_for(pair):
    """Outputs come in the order that they are asked for, all of them where none is."""
    inputs = [tensor(name, [1, 2], fp32_contents=[3, 4]) for name in "ba"]
    answer = pair.infer("graph", *inputs, outputs=[{"name": "difference"}, {"name": "sum"}])
    assert [one.name for one in answer.outputs] == ["difference", "sum"]
    assert [np.frombuffer(one, np.float32).tolist() for one in answer.raw_output_contents] == [[0, 0], [6, 8]]
    assert [one.name for one in pair.infer("graph", *inputs).outputs] == ["sum", "difference"]


def test_large_tensor(line):
    """A tensor of megabytes goes in and out as bytes and as values."""
    values = np.random.default_rng(1).normal(size=(300_000, 4)).astype(np.float32)
    expected = np.maximum(values, 0).tobytes()
    assert line[1].infer("graph", tensor("x", values.shape), raw=[values.tobytes()]).raw_output_contents[0] == expected
    listed = tensor("x", values.shape, fp32_contents=values.ravel())
    assert line[1].infer("graph", listed).raw_output_contents[0] == expected


@pytest.mark.parametrize(
    ("inputs", "more", "said"),
    [
        pytest.param([], {}, "expected the inputs x, got none called x", id="when an input is missing"),
        pytest.param([tensor("x", [1, 4], **GOOD)] * 2, {}, "got 'x'", id="when an input comes twice"),
        pytest.param([tensor("z", [1, 4], **GOOD)], {}, "expected the inputs x, got 'z'", id="when it is unknown"),
        pytest.param([tensor("x", [1, 4], "FP64", fp64_contents=[1])], {}, "got 'FP64'", id="of another type"),
        pytest.param([tensor("x", [1, 4], "FP99")], {}, "no field holds values of FP99", id="of no type"),
        pytest.param([tensor("x", [1, 3], **GOOD)], {}, "expected 3 values", id="when there are too many"),
        pytest.param([tensor("x", [2, 2], **GOOD)], {}, "expected float32[N, 4], got shape [2, 2]", id="shape"),
        pytest.param([tensor("x", [-1, 4], **GOOD)], {}, "a list of lengths", id="when a length is negative"),
        pytest.param([tensor("x", [1, 4])], {}, "expected 4 values", id="when there are no values"),
        pytest.param([tensor("x", [1, 4])], {"raw": [b"\0" * 12]}, "expected 16 bytes", id="when bytes are missing"),
        pytest.param([tensor("x", [1, 4])], {"raw": [b"", b""]}, "of all 1 inputs, got 2", id="when bytes are extra"),
        pytest.param([tensor("x", [1, 4], **GOOD)], {"raw": [b"\0" * 16]}, "got both", id="when they come twice"),
        pytest.param(
            [tensor("x", [1, 4], **GOOD)], {"outputs": [{"name": "q"}]}, "expected some of y, got 'q'", id="output"
        ),
    ],
)
def test_bad_request(line, inputs, more, said):
    """What the graph does not take is INVALID_ARGUMENT with what was expected and found."""
    code, text = refused(line[1].infer, "graph", *inputs, **more)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert said in text


def test_bad_strings(every):
    """Strings that are cut short or not UTF-8 are refused."""
    given = [tensor(one, [2], one) for one in KINDS]
    for data in (b"\1\0", b"\5\0\0\0ab", b"\1\0\0\0\xff\1\0\0\0a"):
        code, text = refused(every.infer, "graph", *given, raw=[data if one == "BYTES" else raw(one) for one in KINDS])
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert text.startswith("BYTES: a string is not UTF-8" if b"\xff" in data else "BYTES: ")
    code, text = refused(every.infer, "graph", tensor("BYTES", [1], "BYTES", bytes_contents=[b"\xff"]))
    assert (code, text) == (grpc.StatusCode.INVALID_ARGUMENT, "BYTES: a string is not UTF-8")


def test_no_message(line):
    """Bytes that are no message are INVALID_ARGUMENT, and a call that does not exist UNIMPLEMENTED."""
    path = "/inference.GRPCInferenceService/"
    code, text = refused(line[1].channel.unary_unary(f"{path}ModelInfer"), b"\xff\xff", timeout=30)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("the body is not a valid ModelInferRequest")
    code, _ = refused(line[1].channel.unary_unary(f"{path}ModelStatistics"), b"", timeout=30)
    assert code == grpc.StatusCode.UNIMPLEMENTED


def test_server(line):
    """The server says that it lives and is ready, its name, version and extensions."""
    calls = line[1].calls
    assert calls.ServerLive(protocol.ServerLiveRequest()).live
    assert calls.ServerReady(protocol.ServerReadyRequest()).ready
    told, http = calls.ServerMetadata(protocol.ServerMetadataRequest()), line[0].ask("/v2").json
    assert (told.name, told.version, list(told.extensions)) == ("edgefleet", http["version"], ["model_repository"])


def test_model(pair):
    """A model names its tensors, free dimensions as -1, and the provider in use."""
    found = pair.calls.ModelMetadata(protocol.ModelMetadataRequest(name="graph"))
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
        (name, "FP32", [-1, 2]) for name in "ab"
    ]
    assert [one.name for one in found.outputs] == ["sum", "difference"]
    assert (found.platform, list(found.versions)) == ("onnxruntime_onnx", ["1"])
    assert dict(found.properties) == {
        "provider_in_use": "CPUExecutionProvider", "provider_reason": "", "providers_requested": "CPUExecutionProvider",
    }  # fmt: skip
    assert pair.calls.ModelReady(protocol.ModelReadyRequest(name="graph", version="1")).ready


def test_unknown_models(line):
    """A model or version that is not there is NOT_FOUND, naming what is, whichever call asks."""
    _, client = line
    given = tensor("x", [1, 4], **GOOD)
    for call, *arguments in (
        (client.infer, "other", given),
        (client.calls.ModelReady, protocol.ModelReadyRequest(name="other")),
        (client.calls.ModelMetadata, protocol.ModelMetadataRequest(name="other")),
        (client.bring, "Load", "other"),
        (client.bring, "Unload", "other"),
    ):
        expected = (grpc.StatusCode.NOT_FOUND, "there is no model 'other'; models: graph")
        assert refused(call, *arguments) == expected
    for call, request in (
        (client.calls.ModelInfer, protocol.ModelInferRequest(model_name="graph", model_version="2", inputs=[given])),
        (client.calls.ModelReady, protocol.ModelReadyRequest(name="graph", version="2")),
        (client.calls.ModelMetadata, protocol.ModelMetadataRequest(name="graph", version="2")),
    ):
        assert refused(call, request) == (grpc.StatusCode.NOT_FOUND, "graph has no version '2'; versions: 1")


def test_repository(serve, relu):
    """A model is listed, unloaded, refused while it is out, and loaded again."""
    _, client = serve("--model", relu)
    given = tensor("x", [1, 4], **GOOD)
    assert client.index() == {"graph": ("1", "READY")}
    client.bring("Unload", "graph")
    assert (client.index(), client.index(ready=True)) == ({"graph": ("1", "UNAVAILABLE")}, {})
    assert not client.calls.ServerReady(protocol.ServerReadyRequest()).ready
    assert not client.calls.ModelReady(protocol.ModelReadyRequest(name="graph")).ready
    for call in (
        lambda: client.infer("graph", given),
        lambda: client.calls.ModelMetadata(protocol.ModelMetadataRequest(name="graph")),
    ):
        assert refused(call)[0] == grpc.StatusCode.UNAVAILABLE
    client.bring("Load", "graph")
    assert client.infer("graph", given).outputs[0].name == "y"


def test_several_models(serve, module, graph):
    """Every model of a module is asked by its name, and one on demand is loaded by the first who asks."""
    side = (TensorProto.FLOAT, ["N", 2])
    graphs = {
        name: graph([helper.make_node(kind, ["x"], ["y"])], {"x": side}, {"y": side})
        for name, kind in (("negative", "Neg"), ("positive", "Abs"))
    }
    models = {name: OnnxGraph(file=f"model/{name}.onnx") for name in graphs}
    folder = module(ModelSet(models=models, main="positive", memory_mb=9), graphs)
    _, client = serve("--module", folder)
    assert client.index() == dict.fromkeys(graphs, ("3", "UNAVAILABLE"))
    for name, expected in (("negative", [1, -2]), ("positive", [1, 2])):
        answer = client.infer(name, tensor("x", [1, 2], fp32_contents=[-1, 2]), model_version="3")
        assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == expected
    assert client.index() == dict.fromkeys(graphs, ("3", "READY"))


def test_entry_script(serve, script):
    """An entry script is not asked in tensors, and the answer says where it is; it is described without any."""
    _, client = serve("--script", script("def run(data): return data"))
    expected = (grpc.StatusCode.INVALID_ARGUMENT, "score: an entry script is asked at /score")
    assert refused(client.infer, "score") == expected
    found = client.calls.ModelMetadata(protocol.ModelMetadataRequest(name="score"))
    assert (found.platform, list(found.inputs)) == ("edgefleet_entry-script", [])


def test_sequences_and_maps(serve, cat_or_dog):
    """What is no tensor comes as one JSON text for each element."""
    answer = serve("--model", cat_or_dog)[1].infer("graph", tensor("x", [1, 2], fp32_contents=[0.25, 0.75]))
    (output,), (data,) = answer.outputs, answer.raw_output_contents
    assert (output.datatype, list(output.shape)) == ("BYTES", [1])
    assert struct.unpack_from("<I", data) == (len(data) - 4,)
    assert json.loads(data[4:]) == {"cat": 0.25, "dog": 0.75}


def test_only_where_it_is_asked_for(start, line, relu):
    """Without the port nothing of gRPC is in the server's memory."""
    without = start("--model", relu).ready()

    def mapped(server):
        return "cygrpc" in Path(f"/proc/{server.process.pid}/maps").read_text()

    assert (mapped(without), mapped(line[0])) == (False, True)
