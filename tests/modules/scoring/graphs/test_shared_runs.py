"""Eight clients at once and graphs that are quicker in batches: everybody gets the answer to what they asked."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.modules.scoring.graphs.crowd import settled, wrong

REQUESTS = 2000
WIDTH = 2048
FLOATS = (TensorProto.FLOAT, ["N", 4])


def constant(name, value):
    return numpy_helper.from_array(np.array(value), name)


class Nodes:
    """The nodes of a graph, whose weights take so long to read that a shared run pays."""

    def __init__(self, *, light=False):
        self.nodes, self.constants, self.light = [], [], light

    def add(self, kind, *inputs, **attributes):
        names = []
        for given in inputs:
            if not isinstance(given, str):
                self.constants.append(constant(f"c{len(self.constants)}", given))
                names.append(self.constants[-1].name)
            else:
                names.append(given)
        self.nodes.append(helper.make_node(kind, names, [f"v{len(self.nodes)}"], **attributes))
        return f"v{len(self.nodes) - 1}"

    def heavy(self, value):
        """The value as it was, after much reading unless it is ``light``."""
        if self.light:
            return value
        random = np.random.default_rng(1)
        found = self.add("MatMul", value, random.random((4, WIDTH), np.float32))
        for _ in range(3):
            found = self.add("MatMul", found, random.random((WIDTH, WIDTH), np.float32) / WIDTH)
        found = self.add("MatMul", found, np.zeros((WIDTH, 4), np.float32))
        return self.add("Add", value, found)

    def named(self, value, name):
        self.nodes.append(helper.make_node("Identity", [value], [name]))


def rows_kept_by_non_zero(nodes):
    """The rows whose first number is not below zero: as many as there are, under the name of all."""
    first = nodes.add("Slice", "x", [0], [1], [1])
    kept = nodes.add("NonZero", nodes.add("Squeeze", nodes.add("GreaterOrEqual", first, np.float32(0)), [1]))
    nodes.named(nodes.add("Gather", nodes.heavy("x"), nodes.add("Squeeze", kept, [0])), "y")
    return {"y": FLOATS}


def boxes_kept_by_suppression(nodes):
    """The boxes that do not overlap a better one: a detector's last step."""
    boxes = nodes.add("Unsqueeze", nodes.heavy("x"), [0])
    scores = nodes.add("Transpose", nodes.add("Unsqueeze", nodes.add("Slice", "x", [3], [4], [1]), [0]), perm=[0, 2, 1])
    kept = nodes.add("NonMaxSuppression", boxes, scores, np.int64(10), np.float32(0.5), np.float32(0.2))
    which = nodes.add("Squeeze", nodes.add("Slice", kept, [2], [3], [1]), [1])
    nodes.named(nodes.add("Gather", "x", which), "y")
    return {"y": FLOATS}


def recurrent_tagger(nodes):
    """A label for each word of a text, whose first axis is time: each follows from all words before it."""
    words = nodes.add("Unsqueeze", nodes.heavy("x"), [1])
    weights, back = np.ones((1, 1, 4), np.float32), np.full((1, 1, 1), 3, np.float32)
    state = nodes.add("Squeeze", nodes.add("RNN", words, weights, back, hidden_size=1), [1, 2])
    nodes.named(nodes.add("Cast", nodes.add("Greater", state, np.float32(0)), to=TensorProto.INT64), "y")
    return {"y": (TensorProto.INT64, ["N"])}


def each_by_itself(nodes):
    """A graph of which requests may share runs, as they do."""
    nodes.named(nodes.add("Mul", nodes.heavy("x"), np.float32(2)), "y")
    return {"y": FLOATS}


def written(graph, build, *, light=False):
    nodes = Nodes(light=light)
    return graph(nodes.nodes, {"x": FLOATS}, build(nodes), initializers=nodes.constants)


def some_rows(generator):
    rows = generator.integers(1, 4)
    return {"x": (generator.random((rows, 4)) * 2 - 1).astype(np.float32)}


@pytest.mark.parametrize(
    ("build", "operator"),
    [
        pytest.param(rows_kept_by_non_zero, "NonZero", marks=pytest.mark.long),
        (boxes_kept_by_suppression, "NonMaxSuppression"),
        pytest.param(recurrent_tagger, "RNN", marks=pytest.mark.long),
        pytest.param(each_by_itself, None, marks=pytest.mark.long),
    ],
)
def test_everybody_gets_their_own_answer(start, graph, build, operator):
    """Of 2 000 requests by eight clients at once none is answered with another's, and what may share runs does."""
    path, light = written(graph, build), written(graph, build, light=True)
    server = start("--model", path).ready()
    status = settled(server)
    assert (status["batch_size"] == 1 and operator in status["batch_reason"]) if operator else status["batch_size"] > 1
    session = onnxruntime.InferenceSession(light, providers=["CPUExecutionProvider"])
    assert wrong(server, session, some_rows, REQUESTS) == 0
    alone = f'batch_size_bucket{{model="graph",le="1"}} {REQUESTS}\n'.encode()
    assert (alone in server.ask("/metrics").body) is bool(operator)


def test_switched_off(start, graph):
    """The setting batching gives each request a run of its own, and the status says so."""
    server = start("--model", written(graph, each_by_itself), EDGEFLEET_SETTINGS='{"batching": "off"}').ready()
    status = server.ask("/edgefleet/status").json
    assert (status["batch_size"], status["batch_reason"]) == (1, "its setting batching is off")
    assert b'edgefleet_scoring_batch_limit{model="graph"} 1\n' in server.ask("/metrics").body
