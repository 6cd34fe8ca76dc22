"""``python tensorflow_model.py JOB.json``: a TensorFlow SavedModel to ONNX, or its own answers to some inputs.

Jobs and answers are as sklearn_model.py's; ``signature`` in the job names one of the model's, without it
``serving_default``.
"""

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import numpy as np
import tensorflow as tf

OPSET = 18
ERROR = re.compile(r"[\w.]+(Error|Exception)\b")


def main() -> None:
    job = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        told = {"convert": convert, "predict": predict}[job["task"]](job)
    except Exception as error:
        # One line, so that whoever reads the last one has all of it.
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    sys.stdout.write("\n" + json.dumps(told) + "\n")


def signature(job: dict[str, Any]) -> tuple[Any, str, Any]:
    """The model, and one of its signatures by name; the function lives as long as the model does."""
    try:
        model = tf.saved_model.load(job["model"])
    except Exception as error:
        raise SystemExit(f"the SavedModel cannot be loaded: {' '.join(str(error).split())}") from error
    name = job.get("signature") or "serving_default"
    if name not in model.signatures:
        raise SystemExit(
            f"it has no signature {name} (there are: {', '.join(model.signatures) or 'none'}): --signature"
        )
    return model, name, model.signatures[name]


def convert(job: dict[str, Any]) -> dict[str, Any]:
    import tf2onnx  # noqa: PLC0415  not needed for the other task

    _, name, function = signature(job)
    command = [
        sys.executable, "-m", "tf2onnx.convert", "--saved-model", job["model"], "--signature_def", name,
        "--tag", "serve", "--output", job["onnx"], "--opset", str(OPSET),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own list
    if done.returncode or not pathlib.Path(job["onnx"]).is_file():
        raise SystemExit(f"tf2onnx {tf2onnx.__version__}: {said(done.stderr)}")
    return {
        "made_by": f"tf2onnx {tf2onnx.__version__}", "library": f"TensorFlow {tf.__version__}", "notes": [],
        "outputs": list(function.structured_outputs),
    }  # fmt: skip


def said(log: str) -> str:
    """The last error in a log, with what it says; else the log's last line."""
    lines = [line for line in log.splitlines() if line.strip()] or ["it wrote no graph"]
    errors = [number for number, line in enumerate(lines) if ERROR.match(line)]
    return " ".join(" ".join(lines[errors[-1] if errors else -1 :]).split())


def predict(job: dict[str, Any]) -> dict[str, Any]:
    model, _, function = signature(job)
    specs = function.structured_input_signature[1]
    answers = []
    for inputs in job["inputs"]:
        found = function(**{name: tensor(rows, specs[name]) for name, rows in inputs.items()})
        answers.append({name: plain(value.numpy()) for name, value in found.items()})
    del model
    return {"answers": answers}


def tensor(rows: Any, spec: Any) -> Any:
    kind = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
    return tf.constant(np.array(rows, dtype=kind), dtype=spec.dtype)


def plain(value: Any) -> Any:
    """Nested lists; TensorFlow's strings are bytes."""
    if value.dtype == object:
        return np.vectorize(bytes.decode, otypes=[object])(value).tolist()
    return value.tolist()


if __name__ == "__main__":
    main()
