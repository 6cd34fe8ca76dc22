"""Whether requests may share a run is tried out; where one's answer would depend on another, they may not."""

import asyncio
import itertools
import threading

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from modules.scoring.graphs.batching import Batches, choose
from modules.scoring.graphs.lanes import Lanes
from modules.scoring.metrics import Figures

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


class Held:
    """A session that runs nothing until it is let go, and remembers how many rows each run had."""

    def __init__(self):
        self.free = threading.Event()
        self.rows = []

    def options(self):
        return None

    def stop(self, options):
        self.free.set()

    def run(self, feeds, options):
        assert self.free.wait(10)
        self.rows.append(len(feeds["x"]))
        return [feeds["x"]]


@pytest.mark.parametrize(("size", "runs"), [(100, [1, 4, 4]), (400, [1, 2, 2, 2, 2]), (5000, [1] * 9)])
async def test_large_requests_share_less(size, runs):
    """Requests larger than those that were tried share a run with fewer others, or none, and none is left waiting."""
    session = Held()
    lanes = Lanes(session, threads=1, timeout_s=30, queue=100, figures=Figures())
    lanes.run_batches(Batches(4, 0.001, body_bytes=1000))
    row = {"x": np.zeros([1, 4], np.float32)}
    asked = [lanes.submit(size, lambda: row, lambda values, _: len(values[0])) for _ in range(9)]
    session.free.set()
    assert await asyncio.gather(*asked) == [1] * 9
    assert session.rows == runs
    await lanes.close()


def test_what_was_tried_is_the_most_that_runs_together(graph):
    """The bound on the bodies follows from the example that was tried, with room for numbers written as JSON."""
    run, example = lone(graph, {"x": FLOATS}, helper.make_node("Relu", ["x"], ["y"]))
    chosen = choose(run, example, 0.001, free_batches())
    assert chosen.body_bytes == chosen.size * 4 * 4 * 6
