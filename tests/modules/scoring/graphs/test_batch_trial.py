"""A graph that looks at other requests for some values, lengths or places only is found by the trial all the same."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modules.scoring.graphs.batch_trial import independent
from modules.scoring.graphs.batching import Batches, choose
from tests.modules.scoring.graphs.crowd import settled

FLOATS = (TensorProto.FLOAT, ["N", 4])
SOME = {
    "nothing": np.float32(0), "hundred": np.float32(100), "tiny": np.float32(1e-5), "zero": np.int64(0),
    "one": np.int64(1), "nine": np.int64(9), "axis": np.int64([1]),
}  # fmt: skip
WIDE = 2048


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def run_of(graph, nodes, kind=FLOATS):
    named = sorted({name for one in nodes for name in one.input} & SOME.keys())
    constants = [numpy_helper.from_array(np.array(SOME[name]), name) for name in named]
    path = graph(nodes, {"x": kind}, {"y": (TensorProto.FLOAT, ["N", None])}, initializers=constants)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def places_after(last):
    """Of each row whether it stands after this one, in a column."""
    return [
        node("Shape", "x", "sizes", end=1),
        node("Squeeze", "sizes", "length"),
        node("Range", "zero length one", "places"),
        node("Greater", f"places {last}", "late"),
        node("Unsqueeze", "late axis", "column"),
    ]


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param(
            [
                node("IsNaN", "x", "gap"),
                node("Where", "gap nothing x", "known"),
                node("ReduceMean", "known", "mean", axes=[0]),
                node("Where", "gap mean x", "y"),
            ],
            id="a gap becomes the mean of all",
        ),
        pytest.param(
            [
                node("ReduceMax", "x", "top", keepdims=0),
                node("Greater", "top hundred", "bytes"),
                node("Div", "x hundred", "less"),
                node("Where", "bytes less x", "y"),
            ],
            id="large numbers are divided, wherever they stand",
        ),
        pytest.param(
            [*places_after("nine"), node("Neg", "x", "other"), node("Where", "column other x", "y")],
            id="the eleventh row and those after it are others",
        ),
        pytest.param(
            [
                *places_after("zero"),
                node("Tanh", "x", "bounded"),
                node("Mul", "bounded tiny", "own"),
                node("Neg", "own", "other"),
                node("Where", "column other own", "y"),
            ],
            id="all answers are small numbers",
        ),
    ],
)
def test_a_graph_that_compares_requests_at_times(graph, nodes):
    """Where one request's gaps, large numbers or place change another's answer, each runs alone."""
    assert (
        choose(run_of(graph, nodes), {"x": np.zeros([1, 4], np.float32)}, 0.001, iter([0.0] * 9).__next__) == Batches()
    )


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.INT64, np.int64), (TensorProto.BOOL, np.bool_)])
def test_the_largest_of_all(graph, kind, dtype):
    """Where the largest number of all counts, or whether any is true, each runs alone, however long the rows are."""
    nodes = [
        node("Cast", "x", "f", to=TensorProto.FLOAT),
        node("ReduceMax", "f", "top", keepdims=0),
        node("Add", "f top", "y"),
    ]
    assert not independent(run_of(graph, nodes, (kind, ["N", 64])), {"x": np.zeros([1, 64], dtype)})


def test_large_whole_numbers(graph):
    """Where anybody's number above a hundred changes the others' answers, each runs alone."""
    nodes = [
        node("Cast", "x", "f", to=TensorProto.FLOAT),
        node("ReduceMax", "f", "top", keepdims=0),
        node("Greater", "top hundred", "bytes"),
        node("Neg", "f", "other"),
        node("Where", "bytes other f", "y"),
    ]
    assert not independent(run_of(graph, nodes, (TensorProto.INT64, ["N", 4])), {"x": np.zeros([1, 4], np.int64)})


def turned(graph):
    """A graph that turns two axes and forgets to turn them back, and so mixes rows that are longer than one."""
    side = (TensorProto.FLOAT, ["N", "L", WIDE])
    nodes = [
        node("Transpose", "x", "turned", perm=[1, 0, 2]),
        node("Shape", "x", "sizes"),
        node("Reshape", "turned sizes", "v0"),
        *(node("MatMul", f"v{place} w{place}", f"v{place + 1}") for place in range(3)),
        node("Identity", "v3", "y"),
    ]
    random = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(random.random((WIDE, WIDE), np.float32) / WIDE, f"w{place}") for place in range(3)
    ]
    return graph(nodes, {"x": side}, {"y": side}, initializers=weights)


def test_axes_in_the_wrong_order(graph, start):
    """A graph that mixes rows only where each is longer than one runs each request alone."""
    status = settled(start("--model", turned(graph)).ready())
    assert status["batch_reason"] == "a trial gave other answers in shared runs, or took as long"


def test_other_lengths(graph):
    """What mixes rows of another length is no graph for shared runs; what does not run with it may be one."""
    run = onnxruntime.InferenceSession(turned(graph), providers=["CPUExecutionProvider"]).run
    one, three = ({"x": np.zeros([1, length, WIDE], np.float32)} for length in (1, 3))
    assert independent(lambda feeds: run(None, feeds), one)
    assert not independent(lambda feeds: run(None, feeds), one, [three])
    assert independent(lambda feeds: run(None, feeds), one, [{"x": np.zeros([1, 1, 4], np.float32)}])
