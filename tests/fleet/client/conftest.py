"""Real ONNX models, small enough to be scored in milliseconds, users with a workspace, and a real fleet server."""

import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.cli import app
from fleet.client.workspace import Workspace
from modules.protocol.topics import PREFIX
from tests.parts import packages
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import HOST, Broker, free_port

PASSPHRASE = "five words that nobody guesses"


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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own for each file of tests; it has no broker, which none of the commands needs."""
    data = initialise(tmp_path_factory.mktemp("fleet") / "data")
    absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
    with fleet_server(data, absent) as running:
        yield running


@pytest.fixture(scope="module")
def user(server, tmp_path_factory):
    """One engineer who has logged in and made the keys; the environment to give a command, and the keys' folder."""
    home = tmp_path_factory.mktemp("user")
    environment = {"EDGEFLEET_HOME": str(home / "config"), "EDGEFLEET_PASSPHRASE": PASSPHRASE}
    login = ["login", server.url, "--token", server.token, "--ca", str(server.data.ca)]
    founded = ["keys", "init", str(home / "keys"), "--team", "acme", "--team", "other"]
    for words in (login, founded):
        done = CliRunner().invoke(app, words, env=environment)
        assert done.exit_code == 0, done.output
    return SimpleNamespace(environment=environment, keys=home / "keys", home=home / "config")


@pytest.fixture
def run(user, monkeypatch):
    """Runs a command as that engineer; returns its JSON document."""
    for name, value in user.environment.items():
        monkeypatch.setenv(name, value)

    def invoke(*words, code=0):
        done = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    return invoke


@pytest.fixture
def draft(run, linear_file):
    """Registers a model and returns its reference; each name is a model of its own."""

    def make(name, *more):
        words = ("models", "register", linear_file, "-n", name, "--team", "acme", "--engine", "process", *more)
        return run(*words)["ref"]

    return make


@pytest.fixture
def fleet(run):
    with Fleet(config.load()) as found:
        yield found
