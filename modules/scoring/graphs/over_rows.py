"""Where a graph makes one number of all rows, of whatever callers sent: a trial does not find each such question.

"Is a number above a thousand anywhere?", "is this token in the batch?": the answer to one request depends on another
only for values that a trial may never have. So the operators that reduce over the first axis, or over all, are found
in the file. Numbers that follow from shapes alone are reduced freely: lengths are computed so. What cannot be told is
taken for such a question, too. An axis counted from the end is the first one where the file says, or the operators
before it let follow, how many there are; where it is not said, it is taken for a later one, as it nearly always is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from modules.scoring.graphs.graph_file import messages

# These take axes, all if none are named; those one axis, the first if it is not named.
_REDUCE: Final = frozenset({
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
})  # fmt: skip
_PLACE: Final = frozenset({"ArgMax", "ArgMin"})
# What they give has as many axes as what they take, or as the input with the most of them.
_KEEP_AXES: Final = frozenset({
    "Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Clip", "Conv", "Div", "Dropout", "Elu", "Equal", "Erf",
    "Exp", "Floor", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid", "Identity", "IsInf", "IsNaN",
    "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "Min", "Mod", "Mul",
    "Neg", "Not", "Or", "Pow", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softmax", "Softplus", "Sqrt", "Sub", "Tanh",
    "Transpose", "Where", "Xor",
})  # fmt: skip
# What they give follows from lengths, not from values.
_LENGTHS: Final = frozenset({"Shape", "Size"})
# Field numbers: of a model, its graph and functions; of these, what they hold.
_MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_GRAPH_NODE, _GRAPH_CONSTANT, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE = 1, 5, 11, 12, 13
_FUNCTION_INPUT, _FUNCTION_NODE = 4, 7
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_INTS = 1, 3, 5, 8
_TENSOR_INTS, _TENSOR_NAME, _TENSOR_RAW = 7, 8, 9
# Of a value's description: its name and type; of these, the tensor, its shape and the axes.
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TENSOR_SHAPE, _SHAPE_AXIS = 1, 2, 1
# A node that is no constant is short, and a list of axes still shorter.
_LONGEST: Final = 64 << 10
_SHORT: Final = 1 << 10
_VARINT, _FIXED64, _BYTES = 0, 1, 2
_SIGN: Final = 1 << 63
Value = int | bytes


class _Node(NamedTuple):
    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, list[int]]


def over_rows(path: Path) -> str:
    """The operator that looks at all rows at once, the first by name; empty if there is none."""
    found: set[str] = set()
    with path.open("rb") as stream:
        for number, end in messages(stream, path.stat().st_size):
            if number in {_MODEL_GRAPH, _MODEL_FUNCTION}:
                of_graph = number == _MODEL_GRAPH
                parts: dict[int, list[bytes]] = {}
                for part, part_end in messages(stream, end):
                    most = _SHORT if of_graph and part == _GRAPH_CONSTANT else _LONGEST
                    if (length := part_end - stream.tell()) <= most:
                        parts.setdefault(part, []).append(stream.read(length))
                found |= _graph(parts) if of_graph else _function(parts)
    return min(found, default="")


def _graph(parts: dict[int, list[bytes]]) -> set[str]:
    constants = dict(_constant(one) for one in parts.get(_GRAPH_CONSTANT, ()))
    names = {_text(_first(one, _VALUE_NAME)) for one in parts.get(_GRAPH_INPUT, ())}
    told = dict(_axes(one) for kind in (_GRAPH_INPUT, _GRAPH_VALUE, _GRAPH_OUTPUT) for one in parts.get(kind, ()))
    return _found([_node(one) for one in parts.get(_GRAPH_NODE, ())], names - constants.keys(), constants, told)


def _function(parts: dict[int, list[bytes]]) -> set[str]:
    names = set(map(_text, parts.get(_FUNCTION_INPUT, ())))
    return _found([_node(one) for one in parts.get(_FUNCTION_NODE, ())], names, {}, {})


def _found(nodes: list[_Node], values: set[str], constants: dict[str, list[int]], told: dict[str, int]) -> set[str]:
    """The operators over all rows; ``values`` are the names of what callers sent, ``told`` how many axes they have."""
    for node in nodes:
        if node.kind == "Constant" and node.outputs:
            constants[node.outputs[0]] = next(iter(node.attributes.values()), [])
    before = -1
    while len(values) > before:  # nodes may stand in any order
        before = len(values)
        values |= {
            name
            for node in nodes
            if node.kind not in _LENGTHS and not values.isdisjoint(node.inputs)
            for name in node.outputs
        }
    ranks = _ranks(nodes, values, told)
    return {
        one.kind
        for one in nodes
        if one.inputs and one.inputs[0] in values and _over_rows(one, constants, ranks.get(one.inputs[0], 0))
    }


def _ranks(nodes: list[_Node], values: set[str], told: dict[str, int]) -> dict[str, int]:
    """How many axes values have, where that is told or follows from others; constants have no more than these."""
    ranks, before = {name: axes for name, axes in told.items() if axes}, -1
    while len(ranks) > before:
        before = len(ranks)
        for node in nodes:
            sent = values.intersection(node.inputs)
            if node.kind in _KEEP_AXES and sent and sent <= ranks.keys():
                ranks = {name: max(ranks[one] for one in sent) for name in node.outputs} | ranks
    return ranks


def _over_rows(node: _Node, constants: dict[str, list[int]], rank: int) -> bool:
    """Whether it reduces over the first axis; ``rank`` is how many there are, 0 where that is not known."""
    first = {0, -rank}
    if node.kind in _PLACE:
        return not first.isdisjoint(node.attributes.get("axis", [0]))
    if node.kind not in _REDUCE:
        return False
    axes = node.attributes.get("axes")
    if axes is None and any(node.inputs[1:]):
        axes = constants.get(node.inputs[1], [0])
    return not first.isdisjoint(axes) if axes else node.attributes.get("noop_with_empty_axes") != [1]


def _node(data: bytes) -> _Node:
    node = _Node("", [], [], {})
    for number, value in _fields(data):
        if number == _NODE_INPUT:
            node.inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            node.outputs.append(_text(value))
        elif number == _NODE_TYPE:
            node = node._replace(kind=_text(value))
        elif number == _NODE_ATTRIBUTE and isinstance(value, bytes):
            name, numbers = _attribute(value)
            node.attributes[name] = numbers
    return node


def _attribute(data: bytes) -> tuple[str, list[int]]:
    """Its name, and the integers that it holds in any form."""
    name, numbers = "", list[int]()
    for number, value in _fields(data):
        if number == _ATTRIBUTE_NAME:
            name = _text(value)
        elif number == _ATTRIBUTE_TENSOR and isinstance(value, bytes):
            numbers = _constant(value)[1]
        elif number in {_ATTRIBUTE_INT, _ATTRIBUTE_INTS}:
            numbers += _integers(value)
    return name, numbers


def _constant(data: bytes) -> tuple[str, list[int]]:
    """The name of a tensor, and its 64-bit integers; of any other type they are no axes."""
    name, numbers = "", list[int]()
    for number, value in _fields(data):
        if number == _TENSOR_NAME:
            name = _text(value)
        elif number == _TENSOR_INTS:
            numbers += _integers(value)
        elif number == _TENSOR_RAW and isinstance(value, bytes):
            wide = range(0, len(value) - 7, 8)
            numbers += [int.from_bytes(value[at : at + 8], "little", signed=True) for at in wide]
    return name, numbers


def _axes(data: bytes) -> tuple[str, int]:
    """The name of a value, and how many axes its description says that it has; 0 where it says nothing."""
    shape = _first(_first(_first(data, _VALUE_TYPE), _TYPE_TENSOR), _TENSOR_SHAPE)
    return _text(_first(data, _VALUE_NAME)), sum(number == _SHAPE_AXIS for number, _ in _fields(shape))


def _first(data: bytes, wanted: int) -> bytes:
    return next((value for number, value in _fields(data) if number == wanted and isinstance(value, bytes)), b"")


def _integers(value: Value) -> list[int]:
    """One, or several that are packed."""
    if isinstance(value, int):
        return [value - 2 * _SIGN if value >= _SIGN else value]
    numbers, at = list[int](), 0
    while at < len(value):
        number, at = _varint(value, at)
        numbers += _integers(number)
    return numbers


def _text(value: Value) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(field number, integer or bytes) of a message; numbers of fixed length are passed over."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif wire == _BYTES:
            length, at = _varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            at += 8 if wire == _FIXED64 else 4


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer that begins at ``at``, and where it ends."""
    value = shift = 0
    for place in range(at, len(data)):
        value |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, place + 1
    return value, len(data)
