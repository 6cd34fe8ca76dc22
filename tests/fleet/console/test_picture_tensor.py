"""A picture as the numbers that a graph takes: guessed from its shape, and packed as numpy would."""

import json

import numpy as np
import pytest

from fleet.console.picture_tensor import LAYOUTS, SCALES, TYPES, Form, as_json, guess, packed, spread

H, W = 3, 4
RGB = np.arange(H * W * 3, dtype=np.uint8).reshape(H, W, 3) * 7
GREY = RGB[..., :1]


def wanted(form):
    """The same by numpy, from the words of the form alone."""
    pixels = (GREY if form.channels == "grey" else RGB).astype(np.float64)
    pixels = pixels[..., ::-1] if form.channels == "BGR" else pixels
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if form.scale == "ImageNet" else ((0,), (1,))
    if form.channels == "BGR":
        mean, std = mean[::-1], std[::-1]
    if form.channels == "grey":
        mean, std = mean[:1], std[:1]
    values = {
        "0 to 1": pixels / 255, "0 to 255": pixels, "-1 to 1": pixels * 2 / 255 - 1, "0 to 16": pixels * 16 / 255,
        "ImageNet": (pixels / 255 - mean) / std,
    }[form.scale]  # fmt: skip
    if form.layout in {"NCHW", "CHW"}:
        values = values.transpose(2, 0, 1)
    if not form.type.startswith("float"):
        values = values.round()
    return values.reshape(form.shape).astype(form.type)


def forms():
    for layout in LAYOUTS:
        for channels in ("grey",) if layout == "NHW" else ("RGB", "BGR", "grey"):
            yield Form(layout, channels, W, H, "ImageNet", "float32")
    yield from (Form("NCHW", "RGB", W, H, scale, "float32") for scale in SCALES)
    yield from (Form("NHWC", "RGB", W, H, "0 to 255", kind) for kind in TYPES)


@pytest.mark.parametrize("form", list(forms()), ids=str)
def test_it_is_packed_as_numpy_does_it(form):
    """Each order, channels, scale and type, as bytes and as JSON."""
    pixels = (GREY if form.channels == "grey" else RGB).tobytes()
    assert packed(pixels, form) == wanted(form).astype(np.dtype(form.type).newbyteorder("<")).tobytes()
    assert len(packed(pixels, form)) == form.length
    found = np.array(json.loads(as_json(pixels, form, 'a "name"'))['a "name"'])
    assert found.shape == form.shape
    assert np.allclose(found, wanted(form).astype(np.float64), rtol=1e-3, atol=1e-3)
    least, mean, most = spread(pixels, form)
    assert np.allclose(
        (least, mean, most), (wanted(form).min(), wanted(form).astype(float).mean(), wanted(form).max()), rtol=1e-3
    )


@pytest.mark.parametrize(
    ("kind", "shape", "form"),
    [
        ("float32", ["N", 3, 224, 160], Form("NCHW", "RGB", 160, 224, "0 to 1", "float32", raw=True)),
        ("float32", [1, 3, "h", "w"], Form("NCHW", "RGB", 224, 224, "0 to 1", "float32", raw=False)),
        ("uint8", [1, 100, 90, 3], Form("NHWC", "RGB", 90, 100, "0 to 255", "uint8", raw=True)),
        ("float32", [1, 1, 28, 28], Form("NCHW", "grey", 28, 28, "0 to 1", "float32", raw=True)),
        ("float32", [3, 3, 64, 64], None),
        ("float32", ["N", 4, 64, 64], None),
        ("float32", ["N", "c", 64, 64], None),
        ("float32", [3, 64, 64], Form("CHW", "RGB", 64, 64, "0 to 1", "float32", raw=True)),
        ("float32", ["N", 28, 28], Form("NHW", "grey", 28, 28, "0 to 1", "float32", raw=True)),
        ("float32", ["N", 64], Form("row", "grey", 8, 8, "0 to 1", "float32", raw=True)),
        ("float32", ["N", 3072], Form("row", "RGB", 32, 32, "0 to 1", "float32", raw=True)),
        ("float32", ["N", 13], None),
        ("float32", ["N", 1], None),
        ("float32", [2, 64], None),
        ("float32", None, None),
        ("float32", [], None),
        ("string", ["N", 64], None),
        ("float32", [1, 3, 4096, 4096], None),
    ],
)
def test_what_a_shape_suggests(kind, shape, form):
    """One picture of one or three colours in any usual order, or nothing."""
    assert guess(kind, shape) == form
