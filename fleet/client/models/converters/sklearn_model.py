"""``python sklearn_model.py JOB.json``: a pickled scikit-learn estimator to ONNX, or its own answers to some inputs.

The job has ``task`` (``convert`` or ``predict``) and ``model``. To convert: ``onnx``, the file to write, and perhaps
``columns``, what samples show of the inputs: name, kind (``number``, ``text``), width. To predict: ``inputs`` by name,
and the names of the graph's ``outputs``. What was done is a JSON object, the last line of standard output; why not, the
last line of standard error.
"""

import json
import pathlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import sklearn

OLDER = {"": 18, "ai.onnx.ml": 3}


def main() -> None:
    job = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    told = {"convert": convert, "predict": predict}[job["task"]](job)
    sys.stdout.write("\n" + json.dumps(told) + "\n")


def load(path: str) -> tuple[Any, list[str]]:
    """The estimator, and what scikit-learn says about the version that it was saved with."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            model = joblib.load(path)
        except Exception as error:
            raise SystemExit(
                f"the pickle cannot be loaded with scikit-learn {sklearn.__version__}: {type(error).__name__}: {error}"
            ) from error
    old = {str(one.message).split(" This might")[0] for one in seen if "Inconsistent" in one.category.__name__}
    if not (hasattr(model, "predict") or hasattr(model, "transform")):
        raise SystemExit(f"the file holds a {type(model).__name__}, no estimator with predict() or transform()")
    return model, sorted(old)


def convert(job: dict[str, Any]) -> dict[str, Any]:
    import skl2onnx  # noqa: PLC0415  not needed for the other task
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType  # noqa: PLC0415  as above

    model, notes = load(job["model"])
    columns = job.get("columns")
    if not columns:
        width = getattr(model, "n_features_in_", None)
        if width is None:
            raise SystemExit("the estimator does not say what it takes: give a request, --sample FILE.json")
        columns = [["X", "number", int(width)]]
    kinds = {"number": FloatTensorType, "text": StringTensorType}
    inputs = [(name, kinds[kind]([None, width])) for name, kind, width in columns]
    # Probabilities as a tensor, not as a list of maps.
    options = {id(model): {"zipmap": False}} if hasattr(model, "predict_proba") else None
    try:
        graph = skl2onnx.convert_sklearn(model, initial_types=inputs, options=options)
    except Exception as newest:  # noqa: BLE001  each converter has errors of its own
        try:
            # Some estimators have no form in the newest operators yet.
            graph = skl2onnx.convert_sklearn(model, initial_types=inputs, options=options, target_opset=OLDER)
        except Exception:  # noqa: BLE001  each converter has errors of its own
            text = " ".join(str(newest).split())
            raise SystemExit(f"skl2onnx {skl2onnx.__version__}: {type(newest).__name__}: {text}") from newest
    pathlib.Path(job["onnx"]).write_bytes(graph.SerializeToString())
    return {
        "made_by": f"skl2onnx {skl2onnx.__version__}", "library": f"scikit-learn {sklearn.__version__}", "notes": notes,
        "outputs": [one.name for one in graph.graph.output],
    }  # fmt: skip


def predict(job: dict[str, Any]) -> dict[str, Any]:
    model, _ = load(job["model"])
    return {"answers": [answer(model, inputs, job["outputs"]) for inputs in job["inputs"]]}


def answer(model: Any, inputs: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    try:
        found = list(results(model, table(model, inputs, np.float64)))
    except ValueError:
        # Some that were fitted with 32-bit numbers take no others.
        found = list(results(model, table(model, inputs, np.float32)))
    return {
        name: np.asarray(value.toarray() if hasattr(value, "toarray") else value).tolist()
        for name, value in zip(outputs, found, strict=False)
    }


def table(model: Any, inputs: dict[str, Any], number: Any) -> Any:
    """What the estimator takes: one array, or a table where each column is an input."""
    if len(inputs) > 1 or list(inputs) == list(getattr(model, "feature_names_in_", ())):
        import pandas as pd  # noqa: PLC0415  only estimators that were fitted with a table need it

        return pd.DataFrame({name: np.array(rows).ravel() for name, rows in inputs.items()})
    (rows,) = inputs.values()
    first = rows
    while isinstance(first, list):
        first = first[0]
    given = np.array(rows, dtype=object if isinstance(first, str) else number)
    # Text vectorizers take a list of documents.
    return given if hasattr(model, "n_features_in_") else given.ravel()


def results(model: Any, given: Any) -> Iterator[Any]:
    """The estimator's answers in the order of the graph's outputs."""
    if not hasattr(model, "predict"):
        yield model.transform(given)
        return
    yield model.predict(given)
    for name in ("predict_proba" if hasattr(model, "classes_") else "transform", "decision_function"):
        if hasattr(model, name):
            yield getattr(model, name)(given)
            return


if __name__ == "__main__":
    main()
