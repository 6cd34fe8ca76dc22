"""Whether requests may share a run is tried out; where one's answer would depend on another, they may not."""

import itertools

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modules.scoring.batching import Batches, choose

FLOATS = (TensorProto.FLOAT, ["N", 4])
NUMBERS = (TensorProto.INT64, ["N", 3])


def constant(name, value):
    return numpy_helper.from_array(np.array(value), name)


def lone(graph, inputs, *nodes, constants=()):
    """A graph of one output y; an example of what it takes; a run of it."""
    path = graph(nodes, inputs, {"y": (TensorProto.FLOAT, ["N", None])}, initializers=constants)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    example = {
        name: np.zeros([1, shape[1]], np.float32 if kind == TensorProto.FLOAT else np.int64)
        for name, (kind, shape) in inputs.items()
    }
    return lambda feeds: session.run(None, feeds), example


def free_batches():
    """A clock by which a batch of any size takes no time."""
    return itertools.repeat(0.0).__next__


def test_rows_that_do_not_meet_share_a_run(graph):
    """A graph that treats each row by itself runs many at once where that is quicker."""
    run, example = lone(graph, {"x": FLOATS}, helper.make_node("Relu", ["x"], ["y"]))
    assert choose(run, example, 0.001, free_batches()).size > 1


def test_numbers_that_do_not_meet_share_a_run(graph):
    """So does one that looks up numbers, as models of language do."""
    table = constant("table", np.arange(8, dtype=np.float32))
    run, example = lone(graph, {"x": NUMBERS}, helper.make_node("Gather", ["table", "x"], ["y"]), constants=[table])
    assert choose(run, example, 0.001, free_batches()).size > 1


@pytest.mark.parametrize("kind", ["largest", "quantized floats", "quantized numbers"])
def test_a_graph_that_compares_requests(graph, kind):
    """When a graph measures one request by another, or quantizes them by their common range, each runs alone."""
    quantized = [
        helper.make_node("DynamicQuantizeLinear", ["f"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    if kind == "largest":
        inputs, constants = {"x": FLOATS}, ()
        nodes = [helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0), helper.make_node("Div", ["x", "m"], ["y"])]
    elif kind == "quantized floats":
        inputs, constants = {"x": FLOATS}, ()
        nodes = [helper.make_node("Identity", ["x"], ["f"]), *quantized]
    else:
        inputs, constants = {"x": NUMBERS}, [constant("table", np.float32([0.3, 0.7])), constant("axis", [1])]
        nodes = [
            helper.make_node("Gather", ["table", "x"], ["found"]),
            helper.make_node("ReduceSum", ["found", "axis"], ["f"]),
            *quantized,
        ]
    run, example = lone(graph, inputs, *nodes, constants=constants)
    assert choose(run, example, 0.001, free_batches()) == Batches()
