"""Train the digits example again: ``python -m modules.examples.digits.train [OUTDIR]`` (dependency group ``train``).

Writes ``digits.onnx`` (input ``pixels`` float32 [N, 64], grey values 0 to 16 row by row; outputs ``label`` int64 [N]
and ``probabilities`` float32 [N, 10]), ``accuracy.json`` (measured through onnxruntime, on images it was not trained
on) and ``digit.json`` (a few of those images, with what they show). Seed and versions decide the result.
"""

# mypy: disable-error-code="import-untyped,import-not-found"
# The packages of the group are installed only where it is trained again, and bring no types.

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

SEED: Final = 7
HELD_OUT: Final = 0.25
REQUIRED_ACCURACY: Final = 0.97
SAMPLES_PER_DIGIT: Final = 2
OPSET: Final = 17
PIXELS: Final = 64
PACKAGES: Final = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


def train() -> tuple[bytes, Any, Any]:
    """The graph, and the held-out images and digits."""
    digits = load_digits()
    images, held_images, shown, held_shown = train_test_split(
        digits.data.astype(np.float32), digits.target, test_size=HELD_OUT, random_state=SEED, stratify=digits.target
    )
    network = MLPClassifier((64,), random_state=SEED, max_iter=400, alpha=1e-3)
    model = make_pipeline(MaxAbsScaler(), network).fit(images, shown)
    graph = to_onnx(
        model,
        initial_types=[("pixels", FloatTensorType([None, PIXELS]))],
        options={"zipmap": False},
        target_opset=OPSET,
        name="digits",
    )
    # Its own names for the outputs are label and probabilities, as promised above; the doc string would hold a date.
    graph.doc_string = ""
    return graph.SerializeToString(), held_images, held_shown


def measure(graph: bytes, images: Any, shown: Any) -> float:
    """The share of images that the graph, as it will be served, recognises."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    labels = session.run(["label"], {"pixels": images})[0]
    return float(np.mean(labels == shown))


def main(folder: Path) -> None:
    graph, images, shown = train()
    accuracy = measure(graph, images, shown)
    if accuracy < REQUIRED_ACCURACY:
        raise SystemExit(f"the accuracy is {accuracy:.4f}, below {REQUIRED_ACCURACY}")
    measured = {
        "accuracy": round(accuracy, 4),
        "held_out_images": len(images),
        "seed": SEED,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    chosen = [place for digit in range(10) for place in np.flatnonzero(shown == digit)[:SAMPLES_PER_DIGIT]]
    samples = [{"pixels": images[place].tolist(), "digit": int(shown[place])} for place in chosen]
    (folder / "digits.onnx").write_bytes(graph)
    (folder / "accuracy.json").write_text(json.dumps(measured, indent=2) + "\n")
    (folder / "digit.json").write_text("[\n" + ",\n".join(map(json.dumps, samples)) + "\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
