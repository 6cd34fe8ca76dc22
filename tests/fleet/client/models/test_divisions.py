"""Divisions by which a request could end the scoring server: named where a request decides both numbers."""

import onnx
import pytest
from onnx import TensorProto as Kind
from onnx import helper

from fleet.client.models.divisions import divisions

A, B = ("a", Kind.INT64), ("b", Kind.INT64)


def value(name, kind):
    return helper.make_tensor_value_info(name, kind, ["n"])


def constant(name, kind, numbers):
    return helper.make_tensor(name, kind, [len(numbers)], numbers)


def saved(folder, nodes, inputs=(A, B), constants=(), outputs=(("y", Kind.INT64),)):
    graph = helper.make_graph(nodes, "g", [value(*one) for one in inputs], [value(*one) for one in outputs], constants)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def node(op, *inputs, to="y", name="", **attributes):
    return helper.make_node(op, inputs, [to], name=name, **attributes)


@pytest.mark.parametrize("kind", [Kind.INT32, Kind.INT64], ids=["int32", "int64"])
@pytest.mark.parametrize("op", ["Div", "Mod"])
def test_a_division_of_two_inputs_is_named(tmp_path, op, kind):
    """By its operator and its node's name, or by what it gives where it has none."""
    inputs, outputs = (("a", kind), ("b", kind)), (("y", kind),)
    assert divisions(saved(tmp_path, [node(op, "a", "b", name="ratio")], inputs, (), outputs)) == (f"{op} ratio",)
    assert divisions(saved(tmp_path, [node(op, "a", "b")], inputs, (), outputs)) == (f"{op} that gives y",)


def test_what_follows_from_inputs_is_followed(tmp_path):
    """Through other nodes in any order, and into the graphs within nodes."""
    far = [node("Div", "sum", "less"), node("Add", "a", "b", to="sum"), node("Sub", "sum", "b", to="less")]
    assert divisions(saved(tmp_path, far)) == ("Div that gives y",)

    inner = [helper.make_graph([node("Mod", "a", "b", to=to)], to, [], [value(to, Kind.INT64)]) for to in ("t", "e")]
    branches = node("If", "choice", then_branch=inner[0], else_branch=inner[1])
    found = divisions(saved(tmp_path, [branches], (A, B, ("choice", Kind.BOOL))))
    assert sorted(found) == ["Mod that gives e", "Mod that gives t"]


@pytest.mark.parametrize(
    "graph",
    [
        {"nodes": [node("Div", "a", "two")], "constants": [constant("two", Kind.INT64, [2])]},
        {"nodes": [node("Div", "two", "b")], "constants": [constant("two", Kind.INT64, [2])]},
        {"nodes": [node("Shape", "b", to="length"), node("Div", "a", "length")]},
        {"nodes": [node("Mod", "a", "b", fmod=1)]},
        {
            "nodes": [node("Div", "a", "b")],
            "inputs": (("a", Kind.FLOAT), ("b", Kind.FLOAT)),
            "outputs": (("y", Kind.FLOAT),),
        },
        {
            "nodes": [node("Div", "a", "b")],
            "inputs": (("a", Kind.UINT64), ("b", Kind.UINT64)),
            "outputs": (("y", Kind.UINT64),),
        },
        {
            "nodes": [node("Div", "a", "b")],
            "inputs": (("a", Kind.INT8), ("b", Kind.INT8)),
            "outputs": (("y", Kind.INT8),),
        },
    ],
    ids=["by a constant", "of a constant", "by a length", "fmod", "floats", "unsigned", "short numbers"],
)
def test_what_no_request_can_end_is_not_named(tmp_path, graph):
    """A warning that does not apply would teach people to pass over those that do."""
    assert divisions(saved(tmp_path, **graph)) == ()


def test_what_cannot_be_read_is_warned_of_by_nobody(tmp_path):
    """It is the scoring server's to say whether it serves that."""
    (tmp_path / "model.onnx").write_bytes(b"\x08ORTM")
    assert divisions(tmp_path / "model.onnx") == ()
