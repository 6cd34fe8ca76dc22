"""Graphs that make one number of all rows are found in the file: a trial need not meet the values that show it."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modules.scoring.graphs.batching import choose
from modules.scoring.graphs.over_rows import over_rows
from tests.modules.scoring.graphs.crowd import settled

FLOATS = (TensorProto.FLOAT, ["N", 4])
CONSTANTS = {
    "one": np.float32(1), "token": np.int64(102), "rows": np.int64([0]), "both": np.int64([0, 1]),
    "inner": np.int64([1]), "none": np.zeros(0, np.int64), "last": np.int64([-1]), "first": np.int64([-2]),
    "flat": np.int64([-1, 4]),
}  # fmt: skip


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def written(graph, *nodes, domains=(("", 17),)):
    named = sorted({name for one in nodes for name in one.input} & CONSTANTS.keys())
    constants = [numpy_helper.from_array(np.array(CONSTANTS[name]), name) for name in named]
    return graph(nodes, {"x": FLOATS}, {"y": (TensorProto.FLOAT, None)}, initializers=constants, domains=domains)


def anywhere(*last):
    """Is there exactly a one? Asked of each number."""
    return [node("Equal", "x one", "same"), node("Cast", "same", "f", to=TensorProto.FLOAT), *last]


@pytest.mark.parametrize(
    "asking",
    [
        pytest.param(node("ReduceMax", "f", "any", keepdims=0), id="of all"),
        pytest.param(node("ReduceMax", "f", "any", axes=[0]), id="of all rows"),
        pytest.param(node("ReduceMean", "f", "any", axes=[1, 0]), id="of all rows and columns"),
        pytest.param(node("ReduceSum", "f rows", "any"), id="of all rows, by an input"),
        pytest.param(node("ReduceSum", "f none", "any"), id="of no axes, which are all"),
        pytest.param(node("ArgMax", "f", "any"), id="the place among all rows"),
        pytest.param(node("ReduceMax", "f", "any", axes=[-2]), id="of all rows, counted from the end"),
        pytest.param(node("ReduceSum", "f first", "any"), id="counted from the end, by an input"),
        pytest.param(node("ArgMax", "f", "any", axis=-2), id="the place, counted from the end"),
    ],
)
def test_a_question_to_all_rows(graph, asking):
    """Whatever it is asked of and however its axes are written, it is found, and named."""
    nodes = anywhere(asking, node("Cast", "any", "found", to=TensorProto.FLOAT), node("Add", "x found", "y"))
    assert over_rows(written(graph, *nodes)) == asking.op_type


def test_axes_that_are_computed(graph):
    """Which axes they are nobody can tell: that counts as all of them; of a constant's node they are read."""
    turned = node("Sub", "both inner", "axes")
    held = node("Constant", "", "axes", value=numpy_helper.from_array(np.int64([1])))
    for computed, found in ((turned, "ReduceSum"), (held, "")):
        nodes = anywhere(computed, node("ReduceSum", "f axes", "any"), node("Add", "x any", "y"))
        assert over_rows(written(graph, *nodes)) == found


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param(anywhere(node("ReduceMax", "f", "y", axes=[1])), id="of each row"),
        pytest.param(anywhere(node("ReduceSum", "f inner", "y")), id="of each row, by an input"),
        pytest.param(anywhere(node("ReduceMax", "f", "y", axes=[-1])), id="of each row, counted from the end"),
        pytest.param(anywhere(node("ReduceSum", "f last", "y")), id="counted from the end, by an input"),
        pytest.param(anywhere(node("ArgMax", "f", "y", axis=-1)), id="the place in each row, counted from the end"),
        pytest.param(
            [node("Reshape", "x flat", "f"), node("ReduceMax", "f", "y", axes=[-1])], id="of what may have any shape"
        ),
        pytest.param(anywhere(node("ReduceSum", "f none", "y", noop_with_empty_axes=1)), id="of nothing"),
        pytest.param(
            [
                node("Shape", "x", "sizes"),
                node("ReduceProd", "sizes", "size", keepdims=0),
                node("Cast", "size", "f", to=TensorProto.FLOAT),
                node("Div", "x f", "y"),
            ],
            id="of lengths",
        ),
        pytest.param(
            [node("ReduceMax", "one", "o", keepdims=0), node("Add", "x o", "y")],
            id="of constants",
        ),
    ],
)
def test_what_asks_no_other_row(graph, nodes):
    """Reductions within a row, of lengths and of constants keep nobody apart."""
    assert over_rows(written(graph, *nodes)) == ""


def test_what_the_file_says_of_a_value_in_between(graph):
    """How many axes it has is read where the operators before it do not tell."""
    path = written(graph, node("Reshape", "x flat", "f"), node("ReduceMax", "f", "y", axes=[-2]))
    assert over_rows(path) == ""
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 4]))
    onnx.save(model, path)
    assert over_rows(path) == "ReduceMax"


def test_in_a_function_of_the_graphs_own(graph):
    """It is found within a function, too, all of whose inputs may be what callers sent."""
    inside = [node("ReduceMax", "a", "top", keepdims=0), node("Sub", "a top", "b")]
    own = helper.make_function("own", "Centred", ["a"], ["b"], inside, [helper.make_opsetid("", 17)])
    path = written(graph, node("Centred", "x", "y", domain="own"), domains=(("", 17), ("own", 1)))
    model = onnx.load(path)
    model.functions.append(own)
    onnx.save(model, path)
    assert over_rows(path) == "ReduceMax"


def test_no_trial_would_find_it(graph, start):
    """The graph of which every trial says that requests may share runs: each has its own, and the status says why."""
    width = 2048
    heavy = [node("MatMul", "x wide", "v0"), *(node("MatMul", f"v{at} w", f"v{at + 1}") for at in range(3))]
    nodes = anywhere(
        node("ReduceMax", "f", "any", keepdims=0),
        *heavy,
        node("MatMul", "v3 narrow", "small"),
        node("Add", "small any", "y"),
    )
    weights = {"wide": (4, width), "w": (width, width), "narrow": (width, 4)}
    random = np.random.default_rng(1)
    more = [numpy_helper.from_array(random.random(shape, np.float32) / width, name) for name, shape in weights.items()]
    more.append(numpy_helper.from_array(np.float32(1), "one"))
    path = graph(nodes, {"x": FLOATS}, {"y": FLOATS}, initializers=more)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    zeros = {"x": np.zeros([1, 4], np.float32)}
    chosen = choose(lambda feeds: session.run(None, feeds), zeros, 0.01, itertools.repeat(0.0).__next__)
    assert chosen.size > 1, "a trial finds it, and this test shows nothing"

    status = settled(start("--model", path).ready())
    assert status["batch_reason"] == "its operator ReduceMax looks at all rows at once"


def test_weights_that_are_listed_among_the_inputs(graph):
    """As older exporters list them: no caller sends these."""
    path = written(graph, node("ReduceMax", "one", "o", keepdims=0), node("Add", "x o", "y"))
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("one", TensorProto.FLOAT, []))
    onnx.save(model, path)
    assert over_rows(path) == ""
