"""The digits example as tests use it: its images as questions, and other graphs that are nearly the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from modules.examples import digits
from tests.parts.traffic import Question

FOLDER = Path(digits.__file__).parent
GRAPH = FOLDER / "digits.onnx"
IMAGES: list[dict[str, Any]] = json.loads((FOLDER / "digit.json").read_text())


# What the graph says by ONNX's own reference implementation: an answer is right if it is the graph's.
_PIXELS = np.array([image["pixels"] for image in IMAGES], np.float32)
_LABELS: Any = ReferenceEvaluator(onnx.load(GRAPH)).run(["label"], {"pixels": _PIXELS})
EXPECTED: list[int] = _LABELS[0].tolist()


def _question(pixels: list[float], digit: int) -> Question:
    def wrong(answer: bytes) -> str:
        label = json.loads(answer)["label"]
        return "" if label == [digit] else f"a {digit} is said to be {label}"

    return Question(json.dumps({"data": [pixels]}).encode(), wrong)


QUESTIONS = [_question(image["pixels"], digit) for image, digit in zip(IMAGES, EXPECTED, strict=True)]


def samples(folder: Path, count: int = 4) -> list[str | Path]:
    """Sample files, as options of ``models register``."""
    options: list[str | Path] = []
    for number, question in enumerate(QUESTIONS[:count]):
        path = folder / f"sample-{number}.json"
        path.write_text(json.dumps({"body": json.loads(question.body)}))
        options += ["--sample", path]
    return options


def trained_on(folder: Path) -> Path:
    """A graph trained a little longer, so to speak: every weight differs by a thousandth, every answer stays right."""
    return _changed(folder / "digits.onnx", lambda weights: weights * np.float32(1.001))


def confused(folder: Path) -> Path:
    """A graph that takes each digit for another: its last layer's outputs are rotated."""
    return _changed(folder / "confused.onnx", lambda weights: np.roll(weights, 3, axis=-1))


def padded(folder: Path, mib: int, *, seed: str = "") -> Path:
    """A graph with an initializer of random bytes that no block repeats, as large as a real model's.

    Another seed makes other bytes.
    """
    model = onnx.load(GRAPH)
    noise = np.random.default_rng([7, *seed.encode()]).integers(0, 256, mib << 20, dtype=np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(noise, "ballast"))
    path = folder / "digits.onnx"
    onnx.save(model, path)
    return path


def _changed(path: Path, change: Any) -> Path:
    model = onnx.load(GRAPH)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and 10 in weights.shape:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(weights)), tensor.name))
    onnx.save(model, path)
    return path
