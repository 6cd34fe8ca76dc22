"""What is told of a graph. All words are the file's own: bounded, and never believed."""

import msgspec


class Value(msgspec.Struct, frozen=True):
    """A tensor that goes in or out; ``shape`` None: it says none. A dimension is a length, a name, or ``?``."""

    name: str
    type: str
    shape: tuple[int | str, ...] | None


class Node(msgspec.Struct, frozen=True):
    """One operation: what it takes and gives, by the names of the values; weights stand apart, with their shapes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[Value, ...] = ()


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A graph's face, and of a small one its nodes.

    ``format`` is ``onnx``, ``ort`` (ONNX Runtime's own, which is not read here) or ``unreadable``, and ``problem``
    says why. ``operators`` counts nodes by operator, the most frequent first; ``nodes`` is None where there are more
    than are drawn. ``external`` names the files that its weights are in. ``classes`` are the names of what it tells
    apart, where its metadata has them.
    """

    format: str
    problem: str = ""
    name: str = ""
    producer: str = ""
    opsets: dict[str, int] = {}
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    operators: dict[str, int] = {}
    count: int = 0
    parameters: int = 0
    external: tuple[str, ...] = ()
    nodes: tuple[Node, ...] | None = None
    classes: tuple[str, ...] = ()
