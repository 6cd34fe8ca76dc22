"""A YOLOX detector: where the characters of a picture are.

It takes a picture of 416 x 416, blue first, with values from 0 to 255, smaller ones in its upper left corner on grey
(114). For each cell of three grids (52 x 52, 26 x 26, 13 x 13, one after the other) it gives the centre, in cells from
the cell's corner, the logarithm of width and height in cells, and the certainty that there is something, and which.
"""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.parts import pypi_models

SIDE = 416
STRIDES = (8, 16, 32)
GREY = 114
CERTAIN, SAME = 0.4, 0.45
TEXT = "k7RwA"
SIZE = 52


@pytest.fixture(scope="module")
def served(serve):
    return serve(pypi_models.files(pypi_models.CHARACTERS) / "characters.onnx")


def picture():
    """Five characters, each a little higher or lower than the one before, and the box that each fills."""
    image = Image.new("RGB", (320, 120), (235, 240, 245))
    draw, font, boxes = ImageDraw.Draw(image), ImageFont.load_default(SIZE), []
    for number, character in enumerate(TEXT):
        place = (20 + 58 * number, 20 + 14 * (number % 2))
        draw.text(place, character, (40, 60, 120), font)
        boxes.append(draw.textbbox(place, character, font))
    return image, boxes


def fitted(image):
    """The model's input, and how many of its pixels are one of the image's."""
    scale = SIDE / max(image.size)
    small = image.resize([int(length * scale) for length in image.size], Image.Resampling.BILINEAR)
    canvas = np.full((SIDE, SIDE, 3), GREY, np.float32)
    canvas[: small.height, : small.width] = np.asarray(small)[:, :, ::-1]
    return {"images": canvas.transpose(2, 0, 1)[None]}, scale


def decoded(cells, scale):
    """Boxes [n, 4] (left, top, right, bottom, in pixels of the image) and their certainty [n]."""
    corners, strides = [], []
    for stride in STRIDES:
        row, column = np.mgrid[: SIDE // stride, : SIDE // stride]
        corners.append(np.stack([column, row], -1).reshape(-1, 2))
        strides.append(np.full((corners[-1].shape[0], 1), stride))
    stride = np.concatenate(strides)
    centre = (cells[:, :2] + np.concatenate(corners)) * stride
    half = np.exp(cells[:, 2:4]) * stride / 2
    return np.concatenate([centre - half, centre + half], 1) / scale, cells[:, 4] * cells[:, 5]


def overlaps(box, others):
    """Intersection over union of one box with each of the others."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = sides.clip(0).prod(1)
    return common / ((box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common)


def best(boxes, certainty):
    """The most certain boxes, without those that are about the same, from left to right."""
    order = [one for one in certainty.argsort()[::-1] if certainty[one] > CERTAIN]
    kept = []
    while order:
        kept.append(order.pop(0))
        order = [one for one in order if overlaps(boxes[kept[-1]], boxes[[one]])[0] < SAME]
    return boxes[sorted(kept, key=lambda one: boxes[one][0])]


def test_finds_every_character(served):
    """Five characters are found where they were drawn, the same each way."""
    image, drawn = picture()
    feeds, scale = fitted(image)
    cells = served.agreed(feeds)["output"]
    assert cells.shape == (1, 3549, 6)
    found = best(*decoded(cells[0], scale))
    assert len(found) == len(TEXT)
    assert all(overlaps(np.array(box, float), found[[number]])[0] > 0.6 for number, box in enumerate(drawn))


def test_nothing_to_find(served):
    """Nothing is found in an empty picture."""
    feeds, scale = fitted(Image.new("RGB", (320, 120), (235, 240, 245)))
    assert len(best(*decoded(served.in_bytes(feeds)["output"][0], scale))) == 0


def test_a_picture_of_another_size_is_refused(served):
    """The graph takes one size of picture only; the answer says which, and what came."""
    reply = served.server.ask(body={"images": np.zeros((1, 3, 32, 32)).tolist()})
    assert reply.status == 400
    assert "expected float32[1, 3, 416, 416], got shape [1, 3, 32, 32]" in reply.json["message"]
