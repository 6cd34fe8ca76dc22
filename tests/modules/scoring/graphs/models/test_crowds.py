"""Published graphs and eight clients at once: nobody gets another's answer."""

import numpy as np
import onnxruntime
import pytest

from tests.modules.scoring.graphs.crowd import settled, wrong
from tests.parts import pypi_models

pytestmark = pytest.mark.long

A_FEW, MANY = 48, 2000


def line(generator):
    """A line of text, of one of two widths, as the recogniser takes it."""
    return {"x": generator.random((1, 3, 48, int(generator.choice((96, 160)))), np.float32)}


def tokens(generator):
    shape = (1, int(generator.integers(3, 9)))
    return {
        "input_ids": generator.integers(1000, 20_000, shape),
        "attention_mask": np.ones(shape, np.int64),
        "token_type_ids": np.zeros(shape, np.int64),
    }


def sound(generator):
    return {"serving_default_input_2:0": (generator.random((1, 43_844, 1), np.float32) - 0.5)}


@pytest.mark.parametrize("requests", [A_FEW, pytest.param(MANY, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
@pytest.mark.parametrize(
    ("package", "name", "made"),
    [
        (pypi_models.OCR, "recognise", line),
        (pypi_models.SENTENCES, "sentences", tokens),
        (pypi_models.NOTES, "notes", sound),
    ],
    ids=["text", "sentences", "notes"],
)
def test_everybody_gets_their_own_answer(start, package, name, made, requests):
    """Of requests of several shapes by eight clients at once none is answered with another's."""
    path = pypi_models.files(package) / f"{name}.onnx"
    server = start("--model", path).ready()
    settled(server)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert wrong(server, session, made, requests) == 0
