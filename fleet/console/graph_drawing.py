"""A graph as a picture: boxes by kind of operator, and what goes from one to the next.

It is made of elements one by one; names of a file are text in them, and never markup.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from fleet.console import graph_layout
from fleet.console.graph_layout import HEIGHT, Layout

_LETTERS: Final = 24
_LETTER: Final = 8.2
_NARROW: Final = 84.0
_EDGES: Final = 3000
_ZOOMS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
_STARTS_AT: Final = 3
# What each kind of operator is called; its colours are in console.css.
_KINDS: Final = {
    "weights": ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MatMul", "MatMulInteger", "QLinearMatMul"),
    "recurrent": ("LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention"),
    "activation": (
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Mish"),
        *("Tanh", "Softmax", "LogSoftmax", "Softplus", "Clip", "Erf"),
    ),
    "norm": ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN"),
    "pool": (
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum"),
        *("ArgMax", "TopK"),
    ),
    "shape": (
        *("Reshape", "Transpose", "Concat", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "Gather", "Shape"),
        *("Pad", "Resize", "Upsample", "Cast", "Identity", "Expand", "Tile", "Constant", "ConstantOfShape"),
    ),
}
_NAMES: Final = {
    "end": "in and out",
    "weights": "weights",
    "recurrent": "recurrent, attention",
    "activation": "activation",
    "norm": "normalisation",
    "pool": "pooling, reduction",
    "shape": "shape",
    "other": "others",
}
_KIND_OF: Final = {name: kind for kind, names in _KINDS.items() for name in names} | {"Gemm": "weights"}


class Box(NamedTuple):
    """A box: two lines, its kind, and all about it for who points at it."""

    title: str
    below: str
    kind: str
    about: str


def draw(face: dict[str, Any], nodes: Sequence[dict[str, Any]]) -> None:
    """The picture, with what makes it larger and smaller."""
    boxes, edges = _boxes(face, nodes)
    layout = graph_layout.place([_width(one) for one in boxes], edges)
    with ui.element("div").classes("ef-line"):
        for kind in dict.fromkeys(one.kind for one in boxes):
            ui.label(_NAMES[kind]).classes(f"ef-node-key ef-node-{kind}")
    bar = ui.element("div").classes("ef-line ef-level")
    frame = ui.element("div").classes("ef-drawing").props("tabindex=0 role=region")
    frame.props["aria-label"] = "The graph; it scrolls"
    with frame:
        picture = ui.element("svg").props("role=img")
        picture.props["viewBox"] = f"0 0 {layout.width:.0f} {layout.height:.0f}"
        picture.props["aria-label"] = f"A drawing of {len(nodes)} operations and what goes from one to the next"
    with picture:
        for route in layout.edges:
            ui.element("path").classes("ef-edge").props["d"] = _path(route)
        for box, (x, y) in zip(boxes, layout.boxes, strict=True):
            _draw_box(box, x, y)
    _zoom(bar, picture, layout)


def _zoom(bar: ui.element, picture: ui.element, layout: Layout) -> None:
    at = [_STARTS_AT]

    def by(step: int) -> Callable[[], None]:
        def change() -> None:
            at[0] = min(max(at[0] + step, 0), len(_ZOOMS) - 1)
            for side, length in (("width", layout.width), ("height", layout.height)):
                picture.props[side] = f"{length * _ZOOMS[at[0]]:.0f}"
            said.text = f"{_ZOOMS[at[0]]:.0%}"

        return change

    with bar:
        ui.button(icon="remove", on_click=by(-1)).props("flat dense aria-label='Smaller'")
        said = ui.label("")
        ui.button(icon="add", on_click=by(1)).props("flat dense aria-label='Larger'")
    by(0)()


def _boxes(face: dict[str, Any], nodes: Sequence[dict[str, Any]]) -> tuple[list[Box], list[tuple[int, int]]]:
    """Boxes from what goes in over each node to what comes out, and which gives something to which."""
    boxes, gives = list[Box](), dict[str, int]()
    edges: list[tuple[int, int]] = []
    for one in face["inputs"]:
        gives.setdefault(one["name"], len(boxes))
        boxes.append(_end(one, "in"))
    for one in nodes:
        edges += [(gives[name], len(boxes)) for name in one["inputs"] if name in gives]
        for name in one["outputs"]:
            gives.setdefault(name, len(boxes))
        boxes.append(_node(one))
    for one in face["outputs"]:
        if one["name"] in gives:
            edges.append((gives[one["name"]], len(boxes)))
        boxes.append(_end(one, "out"))
    return boxes, list(dict.fromkeys(edges))[:_EDGES]


def _end(value: dict[str, Any], way: str) -> Box:
    return Box(value["name"] or "?", shape_of(value), "end", f"{way}: {value['name']}\n{shape_of(value)}")


def _node(node: dict[str, Any]) -> Box:
    weights = [f"{one['name']}: {shape_of(one)}" for one in node["weights"]]
    lines = [f"{node['operator']} {node['name']}".strip(), f"takes {', '.join(node['inputs']) or 'nothing'}"]
    lines += [f"gives {', '.join(node['outputs']) or 'nothing'}", *weights]
    shape = node["weights"][0]["shape"] if node["weights"] else None
    below = "×".join(map(str, shape)) if shape else node["name"]  # noqa: RUF001 - as shapes are written
    return Box(node["operator"], below, _KIND_OF.get(node["operator"], "other"), "\n".join(lines))


def shape_of(value: dict[str, Any]) -> str:
    """A tensor's type and shape in a word or two."""
    shape = value["shape"]
    if shape is None:
        return str(value["type"])
    return f"{value['type']} [{', '.join(map(str, shape))}]"


def _width(box: Box) -> float:
    letters = max(len(_cut(box.title)), len(_cut(box.below)) * 0.85)
    return max(_NARROW, letters * _LETTER + 18)


def _draw_box(box: Box, x: float, y: float) -> None:
    width = _width(box)
    with ui.element("g").classes(f"ef-node ef-node-{box.kind}"):
        TextElement(tag="title", text=box.about)
        rect = ui.element("rect").props(f"rx=7 width={width:.1f} height={HEIGHT:.0f}")
        rect.props["x"], rect.props["y"] = f"{x - width / 2:.1f}", f"{y:.1f}"
        _line(box.title, x, y + (17 if box.below else 26), "ef-node-title")
        if box.below:
            _line(box.below, x, y + 33, "ef-node-below")


def _line(text: str, x: float, y: float, look: str) -> None:
    line = TextElement(tag="text", text=_cut(text)).classes(look)
    line.props["x"], line.props["y"] = f"{x:.1f}", f"{y:.1f}"


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Through all points, downwards at each."""
    (x, y), *rest = points
    said = f"M{x:.1f},{y:.1f}"
    for to_x, to_y in rest:
        middle = (y + to_y) / 2
        said += f"C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}"
        x, y = to_x, to_y
    return said
