"""What is read of graphs: the same as ONNX reads, and of hostile files nothing but an answer, soon."""

import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fleet.graphs.graph import Value
from fleet.graphs.onnx_file import DRAWN, read
from tests.parts.pace import stretched

FLOAT = TensorProto.FLOAT
HOSTILE = "<script>alert(1)</script>"


def saved(tmp_path, nodes, inputs, outputs, weights=(), **more):
    graph = helper.make_graph(nodes, "drawn", inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tests")
    file = tmp_path / "model.onnx"
    onnx.save_model(model, file, **more)
    return file


def tensor(name, kind=FLOAT, shape=("N", 3)):
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.fixture
def small(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["y"], name=HOSTILE),
        helper.make_node("Fancy", ["y", ""], ["z"], domain="acme.ops"),
    ]
    weights = [numpy_helper.from_array(np.zeros((3, 4), np.float32), "w")]
    inputs = [tensor("x"), tensor("n", TensorProto.INT64, None), tensor("w", FLOAT, (3, 4))]
    return saved(tmp_path, nodes, inputs, [tensor("z", FLOAT, [None, 4])], weights)


def test_it_says_what_goes_in_and_out_and_what_is_between(small):
    graph = read(small)
    assert graph.inputs == (Value("x", "float32", ("N", 3)), Value("n", "int64", None))
    assert graph.outputs == (Value("z", "float32", ("?", 4)),)
    assert (graph.format, graph.producer, graph.opsets) == ("onnx", "tests", {"ai.onnx": 17})
    assert graph.operators == {"MatMul": 1, "Relu": 1, "acme.ops.Fancy": 1}
    assert graph.parameters == 12
    first, second, third = graph.nodes
    assert (first.inputs, first.weights) == (("x",), (Value("w", "float32", (3, 4)),))
    assert second.name == HOSTILE
    assert third.inputs == ("y",)


def test_lists_and_maps_have_their_names(tmp_path):
    inner = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, []))
    kind = helper.make_sequence_type_proto(inner)
    out = helper.make_value_info("p", kind)
    file = saved(tmp_path, [helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml")], [tensor("x")], [out])
    assert read(file).outputs == (Value("p", "list of map from int64 to float32", None),)


def test_weights_in_other_files_are_named(tmp_path):
    weights = [numpy_helper.from_array(np.ones((64, 64), np.float32), "w")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    more = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    file = saved(tmp_path, nodes, [tensor("x", FLOAT, ("N", 64))], [tensor("y", FLOAT, ("N", 64))], weights, **more)
    assert read(file).external == ("weights.bin",)


def test_a_graph_that_is_too_large_to_draw_is_counted(tmp_path):
    nodes = [helper.make_node("Relu", [f"v{n}"], [f"v{n + 1}"]) for n in range(DRAWN + 1)]
    graph = read(saved(tmp_path, nodes, [tensor("v0")], [tensor(f"v{DRAWN + 1}")]))
    assert graph.nodes is None
    assert graph.operators == {"Relu": DRAWN + 1}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"\x00\x00\x00\x00ORTM", "ONNX Runtime's own format"),
        (b"\x80\x04 a pickle", "not an ONNX graph"),
        (b"\x08\x08", "not an ONNX graph"),
        (b"\x08\x08\x3a\x7f", "cut off"),
        (b"\x08\x08\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "cut off"),
        (b"\x3a\xff", "not an ONNX graph"),
        (b"\x08\x00" * 500_000, "more parts than are looked at"),
        (b"\x3a\x0a" + b"\x0a\x00" * 5, None),
    ],
)
def test_what_is_no_graph_says_so_soon(tmp_path, data, why):
    """However long it says that something is, or of however many parts it is made."""
    file = tmp_path / "odd"
    file.write_bytes(data)
    begin = time.monotonic()
    found = read(file)
    assert time.monotonic() - begin < stretched(5)
    assert (found.problem == "") if why is None else (why in found.problem)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_is_an_answer_like_any_other(tmp_path_factory, data):
    """Bytes changed or cut anywhere: something is told, or why not."""
    good = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [tensor("x")], [tensor("y")],
        [numpy_helper.from_array(np.ones(3, np.int64), "w")],
    )  # fmt: skip
    whole = bytearray(helper.make_model(good).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.mktemp("damaged") / "model.onnx"
    file.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    assert read(file).format in {"onnx", "ort", "unreadable"}
