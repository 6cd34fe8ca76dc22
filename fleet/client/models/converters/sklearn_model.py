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
import onnx
import sklearn

OLDER = {"": 18, "ai.onnx.ml": 3}


def main() -> None:
    job = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    # Before the converter takes it from there.
    onnx.helper.make_attribute = attribute_of(onnx.helper.make_attribute)
    try:
        told = {"convert": convert, "predict": predict}[job["task"]](job)
    except Exception as error:
        # One line, so that whoever reads the last one has all of it.
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
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
        raise SystemExit(
            f"the file holds a {type(model).__name__}, which is not an estimator: it has no predict() or transform()"
        )
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
    try:
        graph = written(model, inputs)
    except SystemExit as error:
        names = [str(one) for one in getattr(model, "feature_names_in_", ())]
        if job.get("columns") or "column name" not in str(error):
            raise
        raise SystemExit(
            "it was fitted with a table, whose columns may be numbers or text: give a request with a key for each, "
            f'--sample FILE.json with {{"{names[0]}": [[...]], ...}} for {", ".join(names)}'
        ) from error
    pathlib.Path(job["onnx"]).write_bytes(graph.SerializeToString())
    return {
        "made_by": f"skl2onnx {skl2onnx.__version__}", "library": f"scikit-learn {sklearn.__version__}", "notes": notes,
        "outputs": [one.name for one in graph.graph.output],
    }  # fmt: skip


def written(model: Any, inputs: list[Any]) -> Any:
    """The graph: probabilities as a tensor where the converter can, not as a list of maps; else in older operators."""
    import skl2onnx  # noqa: PLC0415  as above

    if hasattr(last(model), "flatten_transform"):
        # Only for transform(), which nobody asks of a classifier; the converter refuses it.
        last(model).flatten_transform = False
    first: Exception | None = None
    for opset in (None, OLDER):
        # Some have no form in the newest operators yet; some no zipmap, of which a pipeline must be told.
        tries: list[dict[Any, Any]] = [{id(model): {"zipmap": False}}, {type(last(model)): {}}]
        if not hasattr(model, "predict_proba"):
            # Of a support vector machine the decisions themselves, which else come with their signs exchanged.
            tries.insert(0, {id(model): {"zipmap": False}, id(last(model)): {"zipmap": False, "raw_scores": True}})
        for options in tries:
            try:
                return skl2onnx.convert_sklearn(model, initial_types=inputs, options=options, target_opset=opset)
            except Exception as error:  # noqa: BLE001  each converter has errors of its own
                if "zipmap" not in str(error) and "raw_scores" not in str(error):
                    first = first or error
                    break
    text = " ".join(str(first).split())
    raise SystemExit(f"skl2onnx {skl2onnx.__version__}: {type(first).__name__}: {text}") from first


def last(model: Any) -> Any:
    """A pipeline's last step, else the estimator itself."""
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return model


def attribute_of(make: Any) -> Any:
    """ONNX's own maker of attributes, given Python's numbers: some trees have NumPy's among them, which it refuses."""

    def run(key: str, value: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(value, list | tuple):
            value = [one.item() if isinstance(one, np.generic) else one for one in value]
            value = [int(one) if isinstance(one, bool) else one for one in value]
        return make(key, value, *rest, **more)

    return run


def predict(job: dict[str, Any]) -> dict[str, Any]:
    model, _ = load(job["model"])
    return {"answers": [answer(model, inputs, job["outputs"]) for inputs in job["inputs"]]}


def answer(model: Any, inputs: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    try:
        found = list(results(model, table(model, inputs, np.float64)))
    except ValueError:
        # Some that were fitted with 32-bit numbers take no others.
        found = list(results(model, table(model, inputs, np.float32)))
    return {name: plain(value) for name, value in zip(outputs, found, strict=False)}


def plain(value: Any) -> Any:
    """Nested lists; several outputs are a list of arrays, which need not be equally wide."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value).tolist()


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
