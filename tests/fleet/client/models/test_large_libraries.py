"""Models of libraries too large for the tests' own environment: each is saved and converted in a Python that has it."""

import json
import subprocess

import pytest

from modules.errors import Invalid
from tests.parts.environments import TENSORFLOW, environment
from tests.parts.pace import stretched

PACKAGES = {
    "tensorflow": TENSORFLOW,
    "boosting": ("lightgbm", "onnxmltools", "packaging", "xgboost-cpu"),
}


def converter(name):
    """A Python with a large library, made once below .cache."""
    return str(environment(name, *PACKAGES[name]))


SAVE = {
    "tensorflow": """
import tensorflow as tf
class Net(tf.Module):
    def __init__(self):
        self.w = tf.Variable(tf.reshape(tf.range(6.0), (3, 2)))
    @tf.function
    def score(self, features):
        z = features @ self.w + 0.5
        return {"scores": tf.nn.softmax(z), "hidden": tf.nn.relu(z)}
net = Net()
spec = tf.TensorSpec([None, 3], tf.float32, name="features")
tf.saved_model.save(net, "saved", signatures={"serving_default": net.score.get_concrete_function(spec)})
""",
    "boosting": """
import numpy as np, lightgbm, xgboost
rows = np.random.default_rng(0).random((200, 4)).astype("float32")
lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(rows, (rows[:, 0] * 3).astype(int)).booster_.save_model("l.txt")
lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(rows, rows[:, 0]).booster_.save_model("r.txt")
xgboost.XGBClassifier(n_estimators=5).fit(rows, rows[:, 0] > 0.5).save_model("x.json")
xgboost.XGBRegressor(n_estimators=5).fit(rows, rows[:, 0]).save_model("x.ubj")
""",
}


def saved(name, folder):
    python = converter(name)
    done = subprocess.run(
        [python, "-c", SAVE[name]], cwd=folder, capture_output=True, text=True, timeout=stretched(120), check=False
    )
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_saved_model(tmp_path, convert):
    """A TensorFlow SavedModel becomes ONNX under its own names of inputs and outputs."""
    python = saved("tensorflow", tmp_path)

    manifest, (sample,) = convert(tmp_path / "saved", {"features": [[1.0, 2.0, 3.0]]}, converter=python)

    assert json.loads(sample.answer)["hidden"] == [[16.5, 22.5]]
    assert manifest.properties["converted_from"].startswith("TensorFlow ")
    assert manifest.properties["converted_by"].startswith("tf2onnx ")
    with pytest.raises(Invalid, match="no signature other"):
        convert(tmp_path / "saved", converter=python, signature="other")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_boosted_trees(tmp_path, convert):
    """Model files of LightGBM and XGBoost, classifiers and regressors, answer as in their own library."""
    python = saved("boosting", tmp_path)

    for name, library in {"l.txt": "LightGBM", "r.txt": "LightGBM", "x.json": "XGBoost", "x.ubj": "XGBoost"}.items():
        manifest, _ = convert(tmp_path / name, converter=python)
        assert manifest.properties["converted_from"].startswith(library)
        assert float(manifest.properties["largest_difference"]) < 1e-4
