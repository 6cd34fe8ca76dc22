"""Real ONNX models, small enough to be scored in milliseconds, and a user with a workspace of their own."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fleet.client.workspace import Workspace
from tests.parts import packages


def _graph(inputs, weights):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])]
    return helper.make_graph(nodes, "linear", inputs, outputs, [numpy_helper.from_array(weights, "w")])


@pytest.fixture
def linear():
    """Makes ``y = x w`` for x of shape [N, 3]; the same bytes each time."""

    def make(weights=None):
        weights = np.arange(6, dtype=np.float32).reshape(3, 2) if weights is None else weights
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])]
        return helper.make_model(
            _graph(inputs, weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests"
        )

    return make


@pytest.fixture
def linear_file(linear, tmp_path):
    file = tmp_path / "linear.onnx"
    onnx.save_model(linear(), file)
    return file


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's own configuration folder."""
    folder = tmp_path / "home"
    monkeypatch.setenv("EDGEFLEET_HOME", str(folder))
    return folder


@pytest.fixture
def workspace(home):
    return Workspace(home / "workspace")


@pytest.fixture
def silent():
    """A progress that nobody watches."""
    return lambda *_: None


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """An index that is a folder; nothing else is asked."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    return folder


@pytest.fixture
def tiny_package(shop):
    """A package ``alpha`` that is there, in its version 1.0."""
    return packages.wheel(shop, "alpha", "1.0")
