"""``python boosted_model.py JOB.json``: a model of XGBoost or LightGBM, in its own file, to ONNX.

Jobs and answers are as sklearn_model.py's; the job's ``framework`` is ``xgboost`` or ``lightgbm``.
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np


def main() -> None:
    job = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        told = {"convert": convert, "predict": predict}[job["task"]](job)
    except Exception as error:
        # One line, so that whoever reads the last one has all of it.
        raise SystemExit(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    sys.stdout.write("\n" + json.dumps(told) + "\n")


def load(job: dict[str, Any]) -> tuple[Any, int, str]:
    """The booster, how many features it takes, and its library."""
    try:
        if job["framework"] == "lightgbm":
            import lightgbm  # noqa: PLC0415  one of the two is enough

            booster = lightgbm.Booster(model_file=job["model"])
            return booster, booster.num_feature(), f"LightGBM {lightgbm.__version__}"
        import xgboost  # noqa: PLC0415  as above

        booster = xgboost.Booster(model_file=job["model"])
        return booster, booster.num_features(), f"XGBoost {xgboost.__version__}"
    except ImportError:
        raise
    except Exception as error:
        raise SystemExit(f"the model cannot be loaded: {' '.join(str(error).split())}") from error


def convert(job: dict[str, Any]) -> dict[str, Any]:
    import onnxmltools  # noqa: PLC0415  not needed for the other task
    from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415  as above

    booster, width, library = load(job)
    inputs = [("X", FloatTensorType([None, width]))]
    try:
        if job["framework"] == "lightgbm":
            graph = onnxmltools.convert_lightgbm(booster, initial_types=inputs, zipmap=False)
        else:
            # The converter knows no other names of features than f0, f1...
            booster.feature_names = None
            graph = onnxmltools.convert_xgboost(booster, initial_types=inputs)
    except Exception as error:
        text = " ".join(str(error).split())
        raise SystemExit(f"onnxmltools {onnxmltools.__version__}: {type(error).__name__}: {text}") from error
    pathlib.Path(job["onnx"]).write_bytes(graph.SerializeToString())
    return {
        "made_by": f"onnxmltools {onnxmltools.__version__}", "library": library, "notes": [],
        "outputs": [one.name for one in graph.graph.output],
    }  # fmt: skip


def predict(job: dict[str, Any]) -> dict[str, Any]:
    booster, _, _ = load(job)
    return {"answers": [answer(booster, job, np.array(one["X"], dtype=np.float32)) for one in job["inputs"]]}


def answer(booster: Any, job: dict[str, Any], rows: Any) -> dict[str, Any]:
    """Scores as the booster gives them; a classifier's as probabilities of each class, with the best one's label."""
    if job["framework"] == "lightgbm":
        scores = np.asarray(booster.predict(rows))
        classifies = str(booster.params.get("objective", "")).startswith(("binary", "multiclass"))
    else:
        import xgboost  # noqa: PLC0415  only where it is needed

        booster.feature_names = None
        scores = np.asarray(booster.predict(xgboost.DMatrix(rows)))
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        classifies = objective.startswith(("binary:logistic", "multi:softprob"))
    if not classifies:
        return {job["outputs"][0]: scores.reshape(len(rows), -1).tolist()}
    if scores.ndim == 1:
        scores = np.stack([1 - scores, scores], axis=1)
    return dict(zip(job["outputs"], [scores.argmax(axis=1).tolist(), scores.tolist()], strict=False))


if __name__ == "__main__":
    main()
