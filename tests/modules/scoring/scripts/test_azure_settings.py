"""Azure Machine Learning's settings by environment and file, the exit codes, and what is refused at the start."""

import json

import pytest

from modules.errors import BadSettings
from modules.scoring.scripts import azure_settings

SCRIPT = """
import logging, os
def init(): logging.getLogger("plants").debug("so little")
def run(data): return {"model": os.environ["AZUREML_MODEL_DIR"], "cwd": os.getcwd()}
"""


@pytest.fixture
def config(tmp_path):
    def write(**settings):
        (tmp_path / "config.json").write_text(json.dumps(settings))
        return tmp_path / "config.json"

    return write


def test_named_by_the_environment(start, script, tmp_path):
    """The environment alone names script, source and models, below the application's root; it wins over the file."""
    path = script(SCRIPT, sub__other__py="")
    (tmp_path / "config.json").write_text(
        json.dumps({
            "AZUREML_ENTRY_SCRIPT": "none.py", "SERVICE_NAME": "by file", "SERVICE_VERSION": 3, "WORKSPACE_NAME": "w",
            "PLANTS": 1, "AZUREML_LOG_LEVEL": "DEBUG",
        })
    )  # fmt: skip
    server = start(
        "--config", tmp_path / "config.json", AML_APP_ROOT=str(path.parent.parent), AZUREML_SOURCE_DIRECTORY="source",
        AZUREML_ENTRY_SCRIPT="score.py", AZUREML_MODEL_DIR="models", SERVICE_NAME="by environment",
    ).ready()  # fmt: skip
    told = server.ask(body=b"").json
    assert told == {"model": str(path.parent.parent / "models"), "cwd": str(path.parent)}
    information = server.ask("/swagger.json").json["info"]
    assert (information["title"], information["version"]) == ("by environment", "3")
    assert "nobody knows the setting PLANTS" in server.log
    assert "WORKSPACE_NAME" not in server.log
    assert "so little" in server.log


def test_command_line_wins(start, script, config):
    """The command line wins over environment and file."""
    path = script(SCRIPT)
    server = start(
        "--script", path, "--model-dir", path.parent, "--config", config(AZUREML_ENTRY_SCRIPT="none.py"),
        AZUREML_ENTRY_SCRIPT="neither.py", AZUREML_MODEL_DIR="/nowhere", SCORING_TIMEOUT_MS="",
    ).ready()  # fmt: skip
    assert server.ask(body=b"").json["model"] == str(path.parent)


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("WORKER_COUNT", "none", 3, "WORKER_COUNT"), ("WORKER_COUNT", "0", 3, "WORKER_COUNT"),
        ("SCORING_TIMEOUT_MS", "soon", 3, "SCORING_TIMEOUT_MS"), ("AZUREML_LOG_LEVEL", "loud", 3, "AZUREML_LOG_LEVEL"),
        ("AZUREML_ENTRY_SCRIPT", "", 1, "AZUREML_ENTRY_SCRIPT"), ("AZUREML_ENTRY_SCRIPT", "none.py", 3, "none.py"),
    ],
)  # fmt: skip
def test_bad_settings(start, name, value, code, said):
    """A setting that cannot be used ends the server with 3, no entry script with 1; the last line names it."""
    server = start(**{"AZUREML_ENTRY_SCRIPT": "score.py", name: value})
    assert server.wait() == code
    assert said in server.log.splitlines()[-1]


def test_bad_ports(start, script, free_port):
    """A port in use, or none at all, ends the server with 1 and names it."""
    port = free_port()
    first = start("--script", script(SCRIPT), tcp=port).ready()
    second = start("--script", script(SCRIPT), tcp=port)
    assert (second.wait(), f"127.0.0.1:{port}" in second.log) == (1, True)
    assert start("--script", script(SCRIPT), tcp=70_000).wait() == 1
    assert first.stop() == 0


def test_precedence():
    """Without the environment the file counts; numbers may be text, empty is not set."""
    settings, _ = azure_settings.read({"WORKER_COUNT": "2", "SERVICE_NAME": ""}, None)
    assert (settings.workers, settings.service_name, settings.worker_timeout_s) == (2, None, None)


@pytest.mark.parametrize(
    ("text", "said"), [("[1]", "object"), ("{", "config.json"), ('{"WORKER_COUNT": []}', "WORKER_COUNT")]
)
def test_bad_files(tmp_path, text, said):
    """A file that is no JSON object, or has a value of another kind, is named."""
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadSettings, match=said):
        azure_settings.read({}, tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("def run(a, /): 0", "must take one parameter", id="positional-only"),
        pytest.param("def run(data, **more): 0", "must take one parameter", id="**kwargs"),
        pytest.param("run = 3", "there is no function run(data)", id="no function"),
        pytest.param("class Old: x: int = undefined\ndef run(data): 0", "score.py:1", id="name error"),
        pytest.param(
            "from inference_schema.schema_decorators import input_schema\n"
            "from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType as S\n"
            "from azureml.contrib.services.aml_request import rawhttp\n"
            "@rawhttp\n@input_schema('data', S(1))\ndef run(data): 0",
            "both @rawhttp and @input_schema", id="both decorators",
        ),
        pytest.param("import numpy\ndef init(): numpy.float(1)\ndef run(data): 0", "write `float`", id="old numpy"),
        pytest.param("import yaml_of_mine\ndef run(data): 0", "add the package yaml_of_mine", id="no package"),
        pytest.param("from azureml.core import Workspace\ndef run(data): 0", "no Azure ML workspace", id="workspace"),
        pytest.param(
            "from azureml.core.model import Model\ndef init(): Model.get_model_path('oak')\ndef run(data): 0",
            "there is no model oak", id="no model",
        ),
        pytest.param("from collections import Mapping\ndef run(data): 0", "collections.abc", id="collections"),
        pytest.param("import sklearn.linear_model.logistic\ndef run(data): 0", "save the model again", id="old pickle"),
    ],
)  # fmt: skip
def test_refused_at_start(start, script, tmp_path, text, said):
    """A script that cannot be served ends the server with 3, and the last line says where, why and what to write."""
    server = start("--script", script(text), "--model-dir", tmp_path)
    assert server.wait() == 3
    line = server.log.splitlines()[-1]
    assert line.startswith("edgefleet-scoring: ")
    assert said in line


def test_init_that_hangs(start, script):
    """Where ``WORKER_TIMEOUT`` bounds the start, an ``init`` that hangs ends the server with 3."""
    server = start("--script", script("import time\ndef init(): time.sleep(600)\ndef run(d): 0"), WORKER_TIMEOUT="1")
    assert server.wait() == 3
    assert "init() took longer than 1 s" in server.log.splitlines()[-1]
