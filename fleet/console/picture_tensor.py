"""A picture as the tensor that a graph takes: which form its shape suggests, and the bytes or the JSON of it. Pure.

The browser decodes the picture and brings it to its size; what comes here are values of 8 bits, one or three a pixel.
"""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

Layout = Literal["NCHW", "NHWC", "CHW", "HWC", "NHW", "row"]
Channels = Literal["RGB", "BGR", "grey"]
#: How a graph may take its pictures, in words; a row is flat, the channels of a pixel side by side.
LAYOUTS: Final[dict[Layout, str]] = {
    "NCHW": "N x C x H x W: planes of colour",
    "NHWC": "N x H x W x C: colours side by side",
    "CHW": "C x H x W: planes, one picture alone",
    "HWC": "H x W x C: colours side by side, one picture alone",
    "NHW": "N x H x W: one value a pixel",
    "row": "N x (H * W * C): one flat row",
}
#: How values are scaled: their names, and of each channel what is multiplied and what is added.
SCALES: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "0 to 1": ((1 / 255, 0.0),) * 3,
    "0 to 255": ((1.0, 0.0),) * 3,
    "-1 to 1": ((2 / 255, -1.0),) * 3,
    "0 to 16": ((16 / 255, 0.0),) * 3,
    "ImageNet": tuple(
        (1 / 255 / std, -mean / std) for mean, std in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    ),
}
#: The types that pixels are sent as, as the struct module writes them.
TYPES: Final = {
    "float32": "<f",
    "float64": "<d",
    "float16": "<e",
    "uint8": "<B",
    "uint16": "<H",
    "int16": "<h",
    "int32": "<i",
    "int64": "<q",
}
MOST_SIDE: Final = 2048
_USUAL: Final = 224
_RGB: Final = 3


class Form(NamedTuple):
    """What a picture becomes; ``raw``: as bytes, else as JSON, which says its shape itself."""

    layout: Layout = "NCHW"
    channels: Channels = "RGB"
    width: int = _USUAL
    height: int = _USUAL
    scale: str = "0 to 1"
    type: str = "float32"
    raw: bool = False

    @property
    def depth(self) -> int:
        return 1 if self.channels == "grey" else _RGB

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = {"N": 1, "C": self.depth, "H": self.height, "W": self.width}
        if self.layout == "row":
            return 1, self.height * self.width * self.depth
        return tuple(sizes[one] for one in self.layout)

    @property
    def length(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * struct.calcsize(TYPES[self.type])


def guess(kind: str, shape: Sequence[int | str] | None) -> Form | None:
    """The form that an input of this type and shape suggests; None: it takes no single picture."""
    if kind not in TYPES or shape is None:
        return None
    form = Form(scale="0 to 1" if kind.startswith("float") else "0 to 255", type=kind, raw=_is_known(shape))
    for layout in LAYOUTS:
        if (found := _read(form, layout, shape)) is not None:
            return found
    return None


def _is_known(shape: Sequence[int | str]) -> bool:
    """Whether the shape follows from the number of bytes."""
    return sum(not isinstance(one, int) for one in shape) <= 1


def _read(form: Form, layout: Layout, shape: Sequence[int | str]) -> Form | None:
    if layout == "row":
        return _row(form, shape)
    if len(shape) != len(layout):
        return None
    sizes = dict(zip(layout, shape, strict=True))
    if sizes.get("N", 1) != 1 and isinstance(sizes["N"], int):
        return None
    # A free number of channels is no hint, and one that is not 1 or 3 is no picture.
    if "C" in sizes and sizes["C"] not in {1, _RGB}:
        return None
    height, width = (_side(sizes[one]) for one in "HW")
    channels: Channels = "grey" if sizes.get("C", 1) == 1 else "RGB"
    if max(height, width) > MOST_SIDE:
        return None
    return form._replace(layout=layout, channels=channels, width=width, height=height)


def _side(size: int | str) -> int:
    return size if isinstance(size, int) and size > 0 else _USUAL


def _row(form: Form, shape: Sequence[int | str]) -> Form | None:
    """A flat row of a square picture."""
    if len(shape) != 2 or (shape[0] != 1 and isinstance(shape[0], int)):  # noqa: PLR2004 - a batch of rows
        return None
    if not isinstance(length := shape[1], int):
        return None
    known: tuple[tuple[Channels, int], ...] = (("grey", 1), ("RGB", _RGB))
    for channels, depth in known:
        side = math.isqrt(max(length, 0) // depth)
        if side > 1 and side * side * depth == length and side <= MOST_SIDE:
            return form._replace(layout="row", channels=channels, width=side, height=side)
    return None


def packed(pixels: bytes, form: Form) -> bytes:
    """The tensor's bytes, little-endian, of pixels as they stand side by side."""
    depth, code = form.depth, TYPES[form.type]
    size, count = struct.calcsize(code), len(pixels) // depth
    found = bytearray(len(pixels) * size)
    for channel, table in enumerate(_tables(form)):
        values = [struct.pack(code, value) for value in table]
        source = pixels[_source(form, channel) :: depth]
        for at in range(size):
            each = source.translate(bytes(one[at] for one in values))
            if form.layout in {"NCHW", "CHW"}:
                begin = channel * count * size
                found[begin + at : begin + count * size : size] = each
            else:
                found[channel * size + at :: depth * size] = each
    return bytes(found)


def as_json(pixels: bytes, form: Form, name: str) -> bytes:
    """The same as a body in JSON, under the name of the input."""
    depth = form.depth
    words = [[_number(value) for value in table] for table in _tables(form)]
    planes = [[words[at][one] for one in pixels[_source(form, at) :: depth]] for at in range(depth)]
    if form.layout in {"NCHW", "CHW"}:
        values = [one for plane in planes for one in plane]
    else:
        values = [one for pixel in zip(*planes, strict=True) for one in pixel]
    return f"{{{json.dumps(name)}:{_nested(values, form.shape)}}}".encode()


def spread(pixels: bytes, form: Form) -> tuple[float, float, float]:
    """The least of the values that are sent, their mean and the largest."""
    tables, sums, least, most = _tables(form), 0.0, math.inf, -math.inf
    for channel, table in enumerate(tables):
        source = pixels[_source(form, channel) :: form.depth]
        present = [(value, source.count(at)) for at, value in enumerate(table)]
        for value, times in present:
            if times:
                sums, least, most = sums + value * times, min(least, value), max(most, value)
    return least, sums / len(pixels), most


def told(pixels: bytes, form: Form) -> str:
    """What is sent, for people."""
    least, mean, most = spread(pixels, form)
    shape, how = " x ".join(map(str, form.shape)), "bytes" if form.raw else "JSON"
    return f"{shape} {form.type}, from {least:.3g} to {most:.3g}, {mean:.3g} on average. Sent as {how}"


def _tables(form: Form) -> list[list[float]]:
    """What each of the 256 values becomes, for each channel as it is sent."""
    whole = not form.type.startswith("float")
    return [
        [round(at * factor + more) if whole else at * factor + more for at in range(256)]
        for factor, more in (SCALES[form.scale][_source(form, channel)] for channel in range(form.depth))
    ]


def _source(form: Form, channel: int) -> int:
    """Which channel of the browser's, red first, stands at this place."""
    return _RGB - 1 - channel if form.channels == "BGR" else channel


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _nested(values: list[str], shape: Sequence[int]) -> str:
    for length in reversed(shape):
        values = [f"[{','.join(some)}]" for some in _pieces(values, length)]
    return values[0]


def _pieces(values: list[Any], length: int) -> Iterator[list[Any]]:
    return (values[at : at + length] for at in range(0, len(values), length))
