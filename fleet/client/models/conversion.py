"""A model of another library becomes ONNX on this machine, in a process of its own beside that library."""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from fleet.client.models.sample_requests import Request
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, Invalid, NeedsOperator, WrongAnswer
from modules.samples import Sample, Samples

Framework = Literal["onnx", "sklearn", "tensorflow", "xgboost", "lightgbm"]

CONVERTERS: Final = Path(__file__).with_name("converters")
_PROGRAMS: Final = {
    "sklearn": "sklearn_model.py",
    "tensorflow": "tensorflow_model.py",
    "xgboost": "boosted_model.py",
    "lightgbm": "boosted_model.py",
}
_EXTRAS: Final = {"sklearn": "sklearn", "tensorflow": "tensorflow", "xgboost": "boosting", "lightgbm": "boosting"}
_LIMIT_S: Final = 900
_SHOWN: Final = 600
_PICKLES: Final = (".pkl", ".pickle", ".joblib", ".sav")
# Conversions compute with 32 bits where most libraries have 64.
ABSOLUTE: Final = 1e-4
RELATIVE: Final = 1e-3


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """A model as its own library saved it.

    ``python`` is an interpreter that has the library and its converter; ``trusted`` says that a pickle, which runs as a
    program when it is opened, may be opened.
    """

    path: Path
    framework: Framework
    python: str = ""
    signature: str = ""
    trusted: bool = False


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """The graph, who made it, and the names of its outputs in order."""

    file: Path
    made_by: str
    library: str
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def framework_of(path: Path) -> Framework:
    """What a model's file looks like; ``onnx`` for everything that is not one of the others."""
    if path.is_dir():
        return "tensorflow" if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file() else "onnx"
    if path.suffix in _PICKLES:
        return "sklearn"
    if path.suffix in {".xgb", ".ubj", ".bst"}:
        return "xgboost"
    try:
        with path.open("rb") as file:
            begin = file.read(64)
    except OSError:
        return "onnx"
    if begin.startswith(b"tree\nversion="):
        return "lightgbm"
    return "xgboost" if path.suffix == ".json" and b'"learner"' in begin else "onnx"


def convert(original: Original, requests: tuple[Request, ...], folder: Path) -> Converted:
    """Write the graph into ``folder``; the requests show what a pickled estimator takes.

    Raises:
        Invalid: a pickle that nobody trusts, or a model that the converter cannot convert.
        BadSettings, NeedsOperator: the interpreter cannot be started, has no converter, or does not end.
    """
    if original.framework == "sklearn" and not original.trusted:
        raise Invalid(
            "a pickle runs as a program when it is opened, and nobody said that this one may",
            element=str(original.path),
            remedy="if you know who made it, add --trusted-pickle",
        )
    file = folder / f"{original.path.stem or 'model'}.onnx"
    job: dict[str, Any] = {"task": "convert", "onnx": str(file)}
    if original.framework == "sklearn" and requests:
        job["columns"] = _columns(requests[0])
    told = _run(original, job)
    return Converted(
        file=file, made_by=told["made_by"], library=told["library"], notes=tuple(told["notes"]),
        outputs=tuple(told["outputs"]),
    )  # fmt: skip


def answers(
    original: Original, converted: Converted, requests: tuple[Request, ...], inputs: tuple[str, ...]
) -> list[dict[str, Any]]:
    """What the original itself answers to the same requests, by the names of the graph's outputs.

    Raises:
        Invalid: a request is not of the form that the graph takes, or the original refuses it.
        BadSettings, NeedsOperator: as :func:`convert`.
    """
    named = [_inputs(request, inputs) for request in requests]
    told = _run(original, {"task": "predict", "inputs": named, "outputs": list(converted.outputs)})
    found: list[dict[str, Any]] = told["answers"]
    return found


def largest_difference(samples: Samples, originals: list[dict[str, Any]], converted: Converted) -> float:
    """How far the graph's answers, in the samples, are from the original's.

    Raises:
        WrongAnswer: further than computing with 32 bits explains, or other labels.
    """
    most = 0.0
    for sample, original in zip(samples.samples, originals, strict=True):
        answer = _answer(sample)
        for name, reference in original.items():
            where = f"sample {sample.name}: {name}"
            if name not in answer:
                raise WrongAnswer(f"the graph has no output {name}", element=where, remedy="report it with the model")
            try:
                found = _flat(answer[name])
                most = max(most, _difference(found, _flat(_for_both_classes(reference, len(found)))))
            except ValueError as error:
                raise WrongAnswer(
                    f"the graph that {converted.made_by} made does not answer as the original: {error}",
                    element=where,
                    remedy="convert it with other versions (--converter), train it with 32-bit numbers, or serve it "
                    "with an entry script",
                ) from error
    return most


def _answer(sample: Sample) -> dict[str, Any]:
    found = msgspec.json.decode(sample.answer)
    return found if isinstance(found, dict) else {}


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [one for part in value for one in _flat(part)]
    return [value]


def _for_both_classes(reference: Any, values: int) -> Any:
    """Of two classes an estimator gives one decision, and some graphs one for each: the other with the sign changed."""
    decisions = isinstance(reference, list) and all(isinstance(one, float) for one in reference)
    return [[-one, one] for one in reference] if decisions and values == 2 * len(reference) else reference


def _difference(found: list[Any], reference: list[Any]) -> float:
    if len(found) != len(reference):
        raise ValueError(f"{len(found)} values instead of {len(reference)}")
    most = 0.0
    for one, given in zip(found, reference, strict=True):
        # In JSON's answer there is no other way to say that something is no number.
        other = None if isinstance(given, float) and not math.isfinite(given) else given
        if isinstance(one, int | float) and isinstance(other, int | float):
            apart = abs(one - other)
            if apart > ABSOLUTE + RELATIVE * abs(other):
                raise ValueError(f"{one} instead of {other}")
            most = max(most, apart)
        elif one != other:
            raise ValueError(f"{one!r} instead of {other!r}")
    return most


def _document(request: Request) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(request.body)
    except UNREADABLE:
        found = None
    if not isinstance(found, dict) or not found:
        raise Invalid(
            "a converted model is compared on JSON requests",
            element=f"sample {request.name}",
            remedy='write {"data": [[...], ...]}, or a key for each input',
        )
    return found


def _columns(request: Request) -> list[list[Any]]:
    """Name, kind and width of each input, as the first request shows them."""
    found = []
    for name, rows in _document(request).items():
        row = rows[0] if isinstance(rows, list) and rows else rows
        width = len(row) if isinstance(row, list) else 1
        kind = "text" if any(isinstance(one, str) for one in _flat(row)) else "number"
        found.append(["X" if name == "data" else name, kind, width])
    return found


def _inputs(request: Request, inputs: tuple[str, ...]) -> dict[str, Any]:
    """The request by the names of the graph's inputs."""
    document = _document(request)
    if len(inputs) == 1 and len(document) == 1:
        return {inputs[0]: next(iter(document.values()))}
    if document.keys() != set(inputs):
        raise Invalid(
            f"it has the keys {', '.join(document)}, the graph takes {', '.join(inputs)}",
            element=f"sample {request.name}",
            remedy="write a key for each input",
        )
    return document


def _run(original: Original, job: dict[str, Any]) -> dict[str, Any]:
    python = original.python or sys.executable
    program = CONVERTERS / _PROGRAMS[original.framework]
    job |= {
        "model": str(original.path.absolute()), "framework": original.framework, "signature": original.signature,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="edgefleet-convert-") as scratch:
        file = Path(scratch, "job.json")
        file.write_text(json.dumps(job))
        try:
            done = subprocess.run(  # noqa: S603  the user's own interpreter, no shell
                [python, "-P", str(program), str(file)],
                capture_output=True, text=True, timeout=_LIMIT_S, check=False, cwd=scratch,
            )  # fmt: skip
        except OSError as error:
            raise BadSettings(
                f"the interpreter cannot be started: {error.strerror}",
                element=python,
                remedy="name another: --converter",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise NeedsOperator(
                f"the conversion did not end within {_LIMIT_S} s", element=str(original.path)
            ) from error
    if done.returncode == 0:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told
    why = (done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"])[-1]
    if why.startswith(("ModuleNotFoundError", "ImportError")):
        extra = _EXTRAS[original.framework]
        raise BadSettings(
            f"what converts this model is not installed: {why}",
            element=python,
            remedy=f"install edgefleet[{extra}], or name a Python that has it: --converter PATH",
        )
    if len(why) > _SHOWN:
        # What went wrong stands first; behind it may come pages of numbers.
        why = f"{why[:_SHOWN]}..."
    raise Invalid(why, element=str(original.path), remedy="serve it with an entry script, or convert it elsewhere")
