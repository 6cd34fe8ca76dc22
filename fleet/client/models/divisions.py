"""Divisions of whole numbers in a graph by which a request could end the scoring server.

ONNX Runtime answers a division by zero with an error. The smallest 32 or 64 bit number divided by -1 it hands to the
processor, which ends the process (SIGFPE). Nothing outside the graph sees these numbers before the run, so whoever
registers the model is told.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_DIVIDES: Final = frozenset({"Div", "Mod"})
# What they give follows from lengths alone, which are neither negative nor so large.
_OF_SHAPES: Final = frozenset({"Shape", "Size"})
_STANDARD: Final = frozenset({"", "ai.onnx"})


def divisions(file: Path) -> tuple[str, ...]:
    """The nodes that divide such numbers where both follow from a request's values; empty where it cannot be told."""
    import onnx  # noqa: PLC0415  a third of a second, for registering alone

    try:
        model = onnx.load(str(file), load_external_data=False)
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # noqa: BLE001 - it only warns: the scoring server serves graphs that ONNX's own tools refuse
        return ()
    graphs = list(_graphs(model.graph))
    whole = {onnx.TensorProto.INT32, onnx.TensorProto.INT64}
    typed = {name for graph in graphs for name, kind in _types(graph) if kind in whole}
    fixed = {tensor.name for tensor in model.graph.initializer}
    asked = {one.name for one in model.graph.input} - fixed
    nodes = [node for graph in graphs for node in graph.node]
    _spread(nodes, asked)
    found = (node for node in nodes if _divides(node) and asked.issuperset(node.input))
    return tuple(_named(node) for node in found if typed.intersection((*node.input, *node.output)))


def _divides(node: Any) -> bool:
    # With fmod it is the library's function, which returns.
    return node.op_type in _DIVIDES and node.domain in _STANDARD and not any(one.i for one in node.attribute)


def _named(node: Any) -> str:
    return f"{node.op_type} {node.name or 'that gives ' + node.output[0]}"


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph, and those within its nodes."""
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)


def _inner(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from ((attribute.g,) if attribute.HasField("g") else ())
        yield from attribute.graphs


def _types(graph: Any) -> Iterator[tuple[str, int]]:
    for one in (*graph.input, *graph.output, *graph.value_info):
        yield one.name, one.type.tensor_type.elem_type
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type


def _spread(nodes: list[Any], asked: set[str]) -> None:
    """Add to the names of values that a request decides those that follow from them; nodes may stand in any order."""
    before = -1
    while before != len(asked):
        before = len(asked)
        for node in nodes:
            if node.op_type in _OF_SHAPES:
                continue
            inner = list(_inner(node))
            if asked.intersection(node.input):
                asked.update(node.output)
                asked.update(one.name for graph in inner for one in graph.input)
            elif any(one.name in asked for graph in inner for one in graph.output):
                asked.update(node.output)
