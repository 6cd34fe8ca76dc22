"""An ONNX file read as far as people want to see it (onnx.proto's field numbers), without ONNX and without trust.

It is Python over a mapped file: a hostile one can waste the bounded time of a look, and no memory but what is shown.
"""

import mmap
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from fleet.graphs import class_names
from fleet.graphs.fields import BYTES, VARINT, Field, Fields
from fleet.graphs.graph import Graph, Node, Value
from modules.class_files import LIMIT
from modules.errors import Invalid

#: Graphs of up to so many nodes are drawn.
DRAWN: Final = 300
_FIELDS: Final = 400_000
_WORDS: Final = 200
_VALUES: Final = 500
_ENDS: Final = 64
_WEIGHTS: Final = 20_000
_DIMENSIONS: Final = 32
_DEPTH: Final = 4
_OPERATORS: Final = 500
_LARGEST: Final = 1 << 62
_ORT_FORMAT: Final = b"ORTM"
_TYPES: Final = (
    *("undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16"),
    *("float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz"),
    *("float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1"),
)

Shape = tuple[int | str, ...] | None
# What the fields of each message are, by number and wire type.
_Names = dict[tuple[int, int], str]
_MODEL: Final[_Names] = {
    (1, VARINT): "format",
    (2, BYTES): "producer",
    (3, BYTES): "producer",
    (7, BYTES): "graph",
    (8, BYTES): "opset",
    (14, BYTES): "metadata",
}
_OPSET: Final[_Names] = {(1, BYTES): "domain", (2, VARINT): "version"}
_GRAPH: Final[_Names] = {
    (1, BYTES): "node",
    (2, BYTES): "name",
    (5, BYTES): "weight",
    (11, BYTES): "input",
    (12, BYTES): "output",
}
_NODE: Final[_Names] = {
    (1, BYTES): "input",
    (2, BYTES): "output",
    (3, BYTES): "name",
    (4, BYTES): "operator",
    (7, BYTES): "domain",
}
_TENSOR: Final[_Names] = {
    (1, VARINT): "shape",
    (1, BYTES): "shape",
    (2, VARINT): "type",
    (8, BYTES): "name",
    (13, BYTES): "external",
}
_ENTRY: Final[_Names] = {(1, BYTES): "key", (2, BYTES): "value"}
_VALUE: Final[_Names] = {(1, BYTES): "name", (2, BYTES): "type"}
_TYPE: Final[_Names] = {
    (1, BYTES): "tensor",
    (4, BYTES): "list",
    (5, BYTES): "map",
    (8, BYTES): "tensor",
    (9, BYTES): "optional",
}
_LIST: Final[_Names] = {(1, BYTES): "of"}
_MAP: Final[_Names] = {(1, VARINT): "key", (2, BYTES): "value"}
_TENSOR_TYPE: Final[_Names] = {(1, VARINT): "type", (2, BYTES): "shape"}
_SHAPE: Final[_Names] = {(1, BYTES): "dimension"}
_DIMENSION: Final[_Names] = {(1, VARINT): "length", (2, BYTES): "name"}


def read(file: Path) -> Graph:
    """What a file says of itself; one that cannot be read says why."""
    try:
        with file.open("rb") as stream:
            if stream.read(8)[4:] == _ORT_FORMAT:
                return Graph(format="ort", problem="it is in ONNX Runtime's own format, which is not read here")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
                return _Reader(data).model()
    except Invalid as error:
        return Graph(format="unreadable", problem=error.message)
    except ValueError:  # nothing can be mapped
        return Graph(format="unreadable", problem="the file is empty")


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._fields, self._whole = Fields(data, _FIELDS), Field(0, BYTES, 0, 0, len(data))
        self._weights: dict[str, Value] = {}
        self._external: dict[str, None] = {}
        self._parameters = 0

    def model(self) -> Graph:
        producer, opsets, graph, seen = "", dict[str, int](), None, False
        said = dict[str, str]()
        try:
            for name, one in self._named(self._whole, _MODEL):
                seen = True
                if name == "graph":
                    graph = one
                elif name == "producer":
                    producer = f"{producer} {self._text(one)}".strip()[:_WORDS]
                elif name == "opset" and len(opsets) < _ENDS:
                    domain, version = self._opset(one)
                    opsets[domain or "ai.onnx"] = version
                elif name == "metadata" and len(said) < len(class_names.KEYS):
                    said |= self._metadata(one)
        except Invalid:
            if seen:
                raise
        if graph is None:
            raise Invalid("this is not an ONNX graph", element="graph")
        named = (class_names.of_metadata(said[key]) for key in class_names.KEYS if key in said)
        classes = tuple(next(filter(None, named), ()))
        return msgspec.structs.replace(self._graph(graph, producer, opsets), classes=classes)

    def _graph(self, field: Field, producer: str, opsets: dict[str, int]) -> Graph:
        title, inputs, outputs = "", list[Value](), list[Value]()
        nodes, operators, count = list[Node](), Counter[str](), 0
        for name, one in self._named(field, _GRAPH):
            if name == "node":
                count += 1
                node = self._node(one)
                operators[node.operator if len(operators) < _OPERATORS else "others"] += 1
                if count <= DRAWN:
                    nodes.append(node)
            elif name == "name":
                title = self._text(one)
            elif name == "weight":
                self._weight(one)
            elif name == "input" and len(inputs) < _VALUES:
                inputs.append(self._value(one))
            elif name == "output" and len(outputs) < _VALUES:
                outputs.append(self._value(one))
        return Graph(
            format="onnx", name=title, producer=producer, opsets=opsets,
            # Graphs of old list their weights among the inputs.
            inputs=tuple(one for one in inputs if one.name not in self._weights), outputs=tuple(outputs),
            operators=dict(operators.most_common()), count=count, parameters=min(self._parameters, _LARGEST),
            external=tuple(self._external),
            nodes=tuple(self._with_weights(one) for one in nodes) if count <= DRAWN else None,
        )  # fmt: skip

    def _with_weights(self, node: Node) -> Node:
        weights = tuple(self._weights[one] for one in node.inputs if one in self._weights)
        inputs = tuple(one for one in node.inputs if one and one not in self._weights)
        return Node(node.name, node.operator, inputs, node.outputs, weights)

    def _node(self, field: Field) -> Node:
        said, inputs, outputs = dict[str, str](), list[str](), list[str]()
        for name, one in self._named(field, _NODE):
            if name == "input" and len(inputs) < _ENDS:
                inputs.append(self._text(one))
            elif name == "output" and len(outputs) < _ENDS:
                outputs.append(self._text(one))
            else:
                said[name] = self._text(one)
        operator, domain = said.get("operator", ""), said.get("domain", "")
        shown = f"{domain}.{operator}"[:_WORDS] if domain not in {"", "ai.onnx"} else operator
        return Node(said.get("name", ""), shown or "?", tuple(inputs), tuple(outputs))

    def _weight(self, field: Field) -> None:
        called, kind, shape, location = "", 0, list[int](), ""
        for name, one in self._named(field, _TENSOR):
            if name == "shape":
                shape += self._fields.numbers(one, _DIMENSIONS - len(shape))
            elif name == "type":
                kind = one.value
            elif name == "name":
                called = self._text(one)
            elif name == "external":
                location = self._location(one) or location
        elements = 1
        for length in shape:
            elements = min(elements * max(length, 0), _LARGEST)
        self._parameters += elements
        if location and len(self._external) < _ENDS:
            self._external[location] = None
        if len(self._weights) < _WEIGHTS:
            self._weights[called] = Value(called, _type(kind), tuple(shape))

    def _location(self, field: Field) -> str:
        entry = {name: self._text(one) for name, one in self._named(field, _ENTRY)}
        return entry.get("value", "") if entry.get("key") == "location" else ""

    def _metadata(self, field: Field) -> dict[str, str]:
        """An entry that may name classes."""
        entry = dict(self._named(field, _ENTRY))
        if "key" not in entry or "value" not in entry or (key := self._text(entry["key"])) not in class_names.KEYS:
            return {}
        return {key: self._fields.text(entry["value"], LIMIT)}

    def _opset(self, field: Field) -> tuple[str, int]:
        found = dict(self._named(field, _OPSET))
        domain, version = found.get("domain"), found.get("version")
        return "" if domain is None else self._text(domain), 0 if version is None else min(version.value, _LARGEST)

    def _value(self, field: Field) -> Value:
        found = dict(self._named(field, _VALUE))
        called, said = found.get("name"), found.get("type")
        kind, shape = ("?", None) if said is None else self._type(said, _DEPTH)
        return Value("" if called is None else self._text(called), kind, shape)

    def _type(self, field: Field, depth: int) -> tuple[str, Shape]:
        """A type as people write it, and its shape where it is a tensor's."""
        for name, one in self._named(field, _TYPE) if depth else ():
            if name == "tensor":
                return self._tensor(one)
            if name == "map":
                return self._map(one, depth), None
            of = next((self._type(inner, depth - 1)[0] for _, inner in self._named(one, _LIST)), "?")
            return f"{name} of {of}", None
        return "?", None

    def _map(self, field: Field, depth: int) -> str:
        key, value = "?", "?"
        for name, one in self._named(field, _MAP):
            if name == "key":
                key = _type(one.value)
            else:
                value = self._type(one, depth - 1)[0]
        return f"map from {key} to {value}"

    def _tensor(self, field: Field) -> tuple[str, Shape]:
        kind, shape = "?", None
        for name, one in self._named(field, _TENSOR_TYPE):
            if name == "type":
                kind = _type(one.value)
            else:
                lengths = (self._dimension(each) for _, each in self._named(one, _SHAPE))
                shape = tuple(islice(lengths, _DIMENSIONS))
        return kind, shape

    def _dimension(self, field: Field) -> int | str:
        for name, one in self._named(field, _DIMENSION):
            if name == "length":
                return one.value if one.value < _LARGEST else "?"
            return self._text(one) or "?"
        return "?"

    def _named(self, field: Field, names: _Names) -> Iterator[tuple[str, Field]]:
        """The fields of a message that are looked at, by what they are."""
        for one in self._fields.each(field.begin, field.end):
            if name := names.get((one.number, one.wire)):
                yield name, one

    def _text(self, field: Field) -> str:
        return self._fields.text(field, _WORDS)


def _type(number: int) -> str:
    return _TYPES[number] if number < len(_TYPES) else f"type {min(number, 9999)}"
