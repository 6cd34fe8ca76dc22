"""PP-OCRv4: where text is in a picture, and what it says; two graphs, one after the other.

Both take pictures as float32 [N, 3, height, width], blue first. The detector wants sides that 32 divides and ImageNet's
mean and deviation, and gives for each pixel the probability that it is the core of a line of text. The recogniser wants
a line of 48 pixels' height with values from -1 to 1, and gives for each step along it the probability of each character
(the first one stands for none); a character counts once however many steps repeat it.
"""

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.parts import pypi_models

LINES = [((40, 40), 36, "Edge devices"), ((60, 140), 28, "order 4711"), ((180, 230), 44, "Hello 2024")]
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
CORE = 0.3
# The core is smaller than the line, by this share of its area for each pixel of its outline.
UNCLIP = 1.6
HEIGHT = 48


@pytest.fixture(scope="module")
def folder():
    return pypi_models.files(pypi_models.OCR)


@pytest.fixture(scope="module")
def detector(serve, folder):
    return serve(folder / "detect.onnx")


@pytest.fixture(scope="module")
def recogniser(serve, folder):
    return serve(folder / "recognise.onnx")


@pytest.fixture(scope="module")
def characters(folder):
    """What the recogniser's classes stand for; the graph carries them."""
    session = onnxruntime.InferenceSession(folder / "recognise.onnx", providers=["CPUExecutionProvider"])
    return ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]


@pytest.fixture(scope="module")
def page():
    """Three lines of text in the font that Pillow brings, 480 x 320."""
    image = Image.new("RGB", (480, 320), "white")
    draw = ImageDraw.Draw(image)
    for place, size, text in LINES:
        draw.text(place, text, "black", ImageFont.load_default(size))
    return image


def drawn():
    """The boxes that the lines of the page fill: left, top, right, bottom."""
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return [draw.textbbox(place, text, ImageFont.load_default(size)) for place, size, text in LINES]


def planes(image):
    """An image as float32 [1, 3, height, width] from 0 to 1, blue first."""
    return np.asarray(image, np.float32)[None, :, :, ::-1].transpose(0, 3, 1, 2) / 255


def detection_input(image):
    return {"x": (planes(image) - MEAN[:, None, None]) / DEVIATION[:, None, None]}


def recognition_input(image):
    width = round(HEIGHT * image.width / image.height)
    return {"x": planes(image.resize((width, HEIGHT), Image.Resampling.BILINEAR)) * 2 - 1}


def runs(marks):
    """Where a row of marks is set: (begin, end) of each stretch."""
    edges = np.flatnonzero(np.diff(marks.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).tolist()


def boxes(probabilities):
    """The lines that a map [height, width] shows, from top to bottom; no two lines share a row."""
    found = []
    for top, bottom in runs((probabilities > CORE).any(1)):
        columns = np.flatnonzero((probabilities[top:bottom] > CORE).any(0))
        left, right = columns[0], columns[-1] + 1
        grow = UNCLIP * (right - left) * (bottom - top) / (2 * (right - left + bottom - top))
        found.append((left - grow, top - grow, right + grow, bottom + grow))
    return found


def only(answer):
    """The array of a graph's one output."""
    (values,) = answer.values()
    return values


def overlap(one, other):
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common)


def spelt(probabilities, characters):
    """The text of one line from [steps, characters]."""
    best = probabilities.argmax(1)
    kept = best[(best != 0) & np.r_[True, best[1:] != best[:-1]]]
    return "".join(characters[one] for one in kept)


def test_finds_the_lines(detector, page):
    """The detector finds the three lines of a page where they were drawn, the same each way."""
    found = boxes(only(detector.agreed(detection_input(page)))[0, 0])
    assert len(found) == len(LINES)
    assert all(overlap(*pair) > 0.6 for pair in zip(found, drawn(), strict=True))


def test_a_page_of_any_size(detector, page):
    """Height and width are the caller's: the same page on a larger sheet has the same lines."""
    sheet = Image.new("RGB", (640, 448), "white")
    sheet.paste(page, (96, 64))
    found = boxes(only(detector.in_bytes(detection_input(sheet)))[0, 0])
    moved = [(left + 96, top + 64, right + 96, bottom + 64) for left, top, right, bottom in drawn()]
    assert len(found) == len(LINES)
    assert all(overlap(*pair) > 0.6 for pair in zip(found, moved, strict=True))


def test_an_empty_page(detector):
    """There is no text on an empty page."""
    answer = detector.in_bytes(detection_input(Image.new("RGB", (480, 320), "white")))
    assert boxes(only(answer)[0, 0]) == []


def test_reads_what_it_found(detector, recogniser, page, characters):
    """Each line that the detector found is read as it was written, the same each way."""
    read = []
    for box in boxes(only(detector.in_bytes(detection_input(page)))[0, 0]):
        line = page.crop([round(edge) for edge in box])
        read.append(spelt(only(recogniser.agreed(recognition_input(line)))[0], characters))
    assert read == [text for _, _, text in LINES]


def test_lines_of_different_length_at_once(recogniser, page, characters):
    """Many callers at the same time, each with a line of another length, each read their own."""
    lines = [page.crop((left - 6, top - 6, right + 6, bottom + 6)) for left, top, right, bottom in drawn()] * 4
    replies = [recogniser.server.later(body={"x": recognition_input(line)["x"].tolist()}) for line in lines]
    read = [spelt(np.array(only(reply().json))[0], characters) for reply in replies]
    assert read == [text for _, _, text in LINES] * 4


def test_one_channel_is_refused(detector):
    """A grey picture is refused, and the answer says that three planes are expected."""
    reply = detector.server.ask(body={"x": np.zeros((1, 1, 32, 32)).tolist()})
    assert reply.status == 400
    assert "float32[p2o.DynamicDimension.0, 3," in reply.json["message"]
    assert "got shape [1, 1, 32, 32]" in reply.json["message"]
