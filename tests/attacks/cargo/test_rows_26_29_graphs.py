"""Rows 26 to 29: graphs that read files, ask for memory without end, never end, or want code that is not there.

Signed, so that they come as far as the container: what stops them there is ONNX Runtime, the container's limits and the
proof that each module has to give before an application gets anything from it.
"""

import json

import onnx
import pytest
from onnx import TensorProto, helper

from modules.manifest import Needs
from tests.parts.programs import CommandFailed

pytestmark = pytest.mark.long

FLOAT = TensorProto.FLOAT
QUESTION = json.dumps({"x": [4.0]}).encode()


def graph(*nodes, initializers=(), opsets=("", 17), kind=FLOAT):
    """From ``x`` to ``y``, one number each."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [1])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        initializers,
    )
    imports = [helper.make_opsetid(*opsets), *([helper.make_opsetid("", 17)] if opsets[0] else [])]
    return helper.make_model(made, opset_imports=imports, ir_version=8).SerializeToString()


def outside(location):
    """Its weights are a file of the device's."""
    weights = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[8], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    nodes = (
        helper.make_node("Cast", ["w"], ["f"], to=FLOAT),
        helper.make_node("Add", ["f", "x"], ["y"]),
    )
    return graph(*nodes, initializers=[weights])


def huge(exponent):
    """So many bytes that are made of a request's single number."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [(1 << exponent) // 4])
    nodes = (
        helper.make_node("ConstantOfShape", ["size"], ["many"]),
        helper.make_node("ReduceMean", ["many"], ["y0"], keepdims=1),
        helper.make_node("Add", ["y0", "x"], ["y"]),
    )
    cast = (
        helper.make_node("Cast", ["x"], ["one"], to=TensorProto.INT64),
        helper.make_node("Sub", ["one", "one"], ["zero"]),
        helper.make_node("Add", ["zero", "shape"], ["size"]),
    )
    return graph(*cast, *nodes, initializers=[shape])


def endless():
    """A loop whose condition always holds, on what it is asked."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["go"]),
            helper.make_node("Sin", ["v"], ["w"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []), helper.make_tensor_value_info("w", FLOAT, [1])],
    )
    most = helper.make_tensor("most", TensorProto.INT64, [], [(1 << 63) - 1])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return graph(helper.make_node("Loop", ["most", "yes", "x"], ["y"], body=body), initializers=[most, yes])


def foreign_code():
    """An operator of nobody's."""
    return graph(helper.make_node("Evil", ["x"], ["y"], domain="evil.ops"), opsets=("evil.ops", 1))


@pytest.mark.parametrize("location", ["../../../etc/passwd", "/etc/passwd"], ids=["above", "absolute"])
def test_row_26_weights_outside_the_module_are_never_read(edge, hold, tmp_path, location):
    """A graph whose weights are a file of the container's, by ``..`` or absolute: the publisher's own command refuses
    it, and on the device ONNX Runtime does, so that the module is never ready and goes back. No link can come,
    for a module is a list of plain files."""
    path = tmp_path / "model.onnx"
    path.write_bytes(outside(location))
    with pytest.raises(CommandFailed, match="outside the model's folder"):
        edge.system.register(path, "outside", "--prove", "ready-only")

    end = hold.brought("evil", hold.graph("outside", outside(location)))

    assert (end.phase, end.code) == ("reverted", "not-ready"), end
    assert "root:" not in end.message
    assert edge.device.score("evil", QUESTION).status in {404, 503}
    edge.holds()
    hold.empty("evil")
    edge.holds()


@pytest.mark.parametrize(
    ("exponent", "codes"),
    [
        # The machine has them: it is the container's limit that ends it, so it never answers its sample.
        (33, {"over-limit", "not-ready"}),
        # No machine has them: the run fails, and says so.
        (48, {"over-limit", "not-ready", "wrong-answer"}),
    ],
    ids=["8 GiB", "256 TiB"],
)
def test_row_27_a_huge_tensor_ends_at_the_containers_limit(edge, hold, exponent, codes):
    """A few bytes of graph ask for gigabytes: the container fails alone, the device's memory is as it was, and what was
    ordered is reverted before an application asked it."""
    data = huge(exponent)
    assert len(data) < 1000
    # So long that it could answer: it is the memory that ends it, and not the time.
    ref = hold.graph("huge", data, asked=(QUESTION,), needs=Needs(memory_mb=256), ready_within_s=120.0)
    end = hold.brought("evil", ref)

    assert end.phase == "reverted", end
    assert end.code in codes, end
    edge.holds()
    hold.empty("evil")
    edge.holds()


def test_row_28_an_endless_graph_fails_its_proof(edge, hold):
    """The sample is not answered in the time that a module may take: reverted, its container gone, while the other
    module answers."""
    adjusted = hold.graph("endless", endless(), asked=(QUESTION,))
    hold.order(adjusted, "evil")
    edge.device.until(lambda: edge.device.phase("evil") in {"starting", "reverted"}, "it starts")
    edge.answers()
    end = hold.ends("evil", within_s=90)

    assert end.phase == "reverted", end
    edge.holds()
    hold.empty("evil")
    edge.holds()


def test_row_28_a_script_that_never_loads_is_given_up(edge, hold):
    """``init()`` that does not return: after the seconds that its own manifest allows it is reverted."""
    script = "import time\ndef init():\n    time.sleep(1e6)\ndef run(data):\n    return 1\n"
    end = hold.brought("evil", hold.script("slow", script, ready_within_s=3.0))

    assert (end.phase, end.code) == ("reverted", "not-ready"), end
    assert "not ready within 3 s" in end.message
    edge.holds()
    hold.empty("evil")
    edge.holds()


def test_row_29_an_operator_of_a_foreign_domain_does_not_load(edge, hold, tmp_path):
    """No library is loaded for it, whatever it is called: refused where it is registered, and never ready on the
    device. A manifest has no place for a library of operators, so there is none to sign."""
    path = tmp_path / "model.onnx"
    path.write_bytes(foreign_code())
    onnx.load(path)
    with pytest.raises(CommandFailed, match=r"evil\.ops|Evil"):
        edge.system.register(path, "foreign", "--prove", "ready-only")

    end = hold.brought("evil", hold.graph("foreign", foreign_code()))

    assert (end.phase, end.code) == ("reverted", "not-ready"), end
    assert "Evil" in end.message
    edge.holds()
    hold.empty("evil")
    edge.holds()
