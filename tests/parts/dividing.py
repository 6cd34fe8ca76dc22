"""A graph that divides one whole number of a request by another; one request ends ONNX Runtime's process."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

HONEST, ANSWER = b'{"a": [12], "b": [4]}', [3]
# An error of the run's.
BY_ZERO = b'{"a": [12], "b": [0]}'
# The processor's own: SIGFPE.
DEADLY = b'{"a": [-9223372036854775808], "b": [-1]}'


def graph(folder: Path) -> Path:
    """The file; its node is called ``ratio``."""
    a, b, y = (helper.make_tensor_value_info(name, TensorProto.INT64, ["n"]) for name in "aby")
    made = helper.make_graph([helper.make_node("Div", ["a", "b"], ["y"], name="ratio")], "dividing", [a, b], [y])
    path = folder / "dividing.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
