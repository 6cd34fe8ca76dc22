"""Which graphs may have requests share a run, by their axes' names and operators; what is not certain is no."""

import pytest
from onnx import TensorProto, helper

from modules.scoring.graphs import graph_file
from modules.scoring.graphs.batch_axis import why_alone
from modules.scoring.runtime import Tensor

X = Tensor("x", "float32", ("N", 4))


def test_one_name_for_all():
    """Where every input and output names the same first axis, and operators look at each row alone, runs are shared."""
    assert (
        why_alone([X], [Tensor("y", "float32", ("N", 2)), Tensor("label", "int64", ("N",))], frozenset({"Gemm"})) == ""
    )


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([X], [Tensor("y", "float32", ("M", 2))]),
        ([X], [Tensor("y", "float32", (None, 2))]),
        ([Tensor("x", "float32", (None, 4))], [Tensor("y", "float32", (None, 2))]),
        ([X, Tensor("z", "float32", (1, 4))], [Tensor("y", "float32", ("N", 2))]),
        ([X, Tensor("rate", "float32", ())], [Tensor("y", "float32", ("N", 2))]),
        ([X], [Tensor("y", "float32", ("N", 2)), Tensor("boxes", "float32", ("D", 6))]),
        ([X], [Tensor("y", "seq(map(int64,tensor(float)))", ())]),
        ([Tensor("x", "float32", (1, 4))], [Tensor("y", "float32", (1, 2))]),
        ([], [Tensor("y", "float32", ("N", 2))]),
    ],
)
def test_no_name_in_common(inputs, outputs):
    """An axis without a name, or with another, is nobody's batch."""
    assert "by its name" in why_alone(inputs, outputs, frozenset({"Gemm"}))


@pytest.mark.parametrize(
    "operator",
    ["NonMaxSuppression", "NonZero", "Unique", "Compress", "If", "Loop", "Scan", "SequenceAt", "LSTM", "GRU", "RNN",
     "CumSum", "RoiAlign", "DynamicQuantizeLinear", "Tokenizer"],
)  # fmt: skip
def test_operators_that_mix(operator):
    """An operator whose answer for a row follows from values or from other rows keeps requests apart, and is named."""
    assert operator in why_alone([X], [Tensor("y", "float32", ("N", 2))], frozenset({"Relu", operator}))


def test_labels_alone_tell_too_little():
    """A graph that answers with nothing but labels is not batched: too many inputs have the same."""
    assert "no floats" in why_alone([X], [Tensor("label", "int64", ("N",))], frozenset({"ArgMax"}))


def test_operators_unread():
    """What cannot be looked into is not batched."""
    assert "cannot be read" in why_alone([X], [Tensor("y", "float32", ("N", 2))], frozenset())


def test_operators_of_inner_graphs(graph):
    """Operators inside branches, and inside branches of those, are seen as the outermost are."""

    def branch(*nodes):
        return helper.make_graph(nodes, "b", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)])

    identity = helper.make_node("Identity", ["x"], ["z"])
    inner = branch(helper.make_node("Transpose", ["x"], ["z"], perm=[1, 0]))
    outer = branch(helper.make_node("If", ["go"], ["z"], then_branch=inner, else_branch=branch(identity)))
    node = helper.make_node("If", ["go"], ["y"], then_branch=branch(identity), else_branch=outer)
    path = graph(
        [node], {"x": (TensorProto.FLOAT, [4, 4]), "go": (TensorProto.BOOL, [])}, {"y": (TensorProto.FLOAT, None)}
    )
    assert graph_file.operators(path) == {"If", "Identity", "Transpose"}
