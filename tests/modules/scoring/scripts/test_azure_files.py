"""What Azure ML's server reads beside a script, and the addresses and headers that its clients use."""

import json

import pytest

SCRIPT = "import os\ndef run(data): return os.getcwd()"


@pytest.fixture(scope="module")
def server(start, script):
    path = script(SCRIPT)
    (path.parent / "swagger.json").write_text('{"own": 2}')
    (path.parent / "swagger3.1.json").write_text('{"own": 3.1}')
    (path.parent / "config.json").write_text(json.dumps({"SERVICE_NAME": "by file"}))
    return start("--script", path, SERVER_VERSION_LOG_RESPONSE_ENABLED="False").ready()


@pytest.mark.parametrize(
    ("query", "own"), [("", 2), ("?version=2.0", 2), ("?version=3.1", 3.1), ("?version=2&version=3", 2)]
)
def test_own_documents(server, query, own):
    """The documents that stand beside the script are served, by the versions' other names too; the first one counts."""
    assert server.ask(f"/swagger.json{query}").json == {"own": own}


def test_found_configuration(server):
    """``config.json`` beside the script is read without being named; what it does not replace is made."""
    assert server.ask("/swagger.json?version=3.0").json["info"]["title"] == "by file"


@pytest.mark.parametrize("version", ["", "4", "1"])
def test_unknown_versions(server, version):
    """Other versions, an empty one too, are 404."""
    assert server.ask(f"/swagger.json?version={version}").status == 404


def test_named_configuration(start, script, tmp_path):
    """``AZUREML_CONFIG_FILE`` names the file; a document of one's own that is no JSON is refused at the start."""
    (tmp_path / "own.json").write_text(json.dumps({"SERVICE_NAME": "named"}))
    path = script(SCRIPT)
    server = start("--script", path, AZUREML_CONFIG_FILE=str(tmp_path / "own.json")).ready()
    assert server.ask("/swagger.json").json["info"]["title"] == "named"
    (path.parent / "swagger.json").write_text("{")
    broken = start("--script", path)
    assert (broken.wait(), "swagger.json" in broken.log) == (3, True)


def test_models_are_shown(start, script):
    """Where init() fails, the log says what is in the models' folder; its last line still says why it failed."""
    path = script("def init(): open('model/no.pkl')\ndef run(data): return 1", model__weights="")
    server = start("--script", path, "--model-dir", path.parent / "model")
    assert server.wait() == 3
    *before, last = server.log.splitlines()
    assert before[-2:] == [f"{path.parent / 'model'} holds:", "  weights"]
    assert "no.pkl" in last


def test_script_below_the_root(start, script):
    """An entry script is below the application's root, where a source folder is named too; both are on its path."""
    path = script("import at_root, beside\ndef run(data): return [at_root.NAME, beside.NAME]")
    (path.parent / "beside.py").write_text("NAME = 'beside'")
    (path.parent.parent / "at_root.py").write_text("NAME = 'at the root'")
    server = start(
        AML_APP_ROOT=str(path.parent.parent), AZUREML_SOURCE_DIRECTORY="source", AZUREML_ENTRY_SCRIPT="source/score.py"
    ).ready()
    assert server.ask(body=b"").json == ["at the root", "beside"]


def test_schema_that_swagger_cannot_hold(start, script):
    """A schema that Swagger 2 cannot hold has no document of that version."""
    text = """
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema
@input_schema("data", StandardPythonParameterType(["a", 1, 2.5]))
def run(data): return data
"""
    server = start("--script", script(text)).ready()
    assert [server.ask(f"/swagger.json?version={one}").status for one in ("2", "3.1")] == [404, 200]
    assert server.ask("/swagger.json").status == 404


def test_version_switched_off(server):
    """The version of the server is not told where it is switched off."""
    assert "x-ms-server-version" not in server.ask("/").headers


def test_doubled_slashes(server):
    """A base address that ends with a slash is no other address."""
    assert server.ask("//score", b"x").status == 200


def test_ids(server):
    """An id may have spaces, a TraceId any length; spaces after a header's value are none of it."""
    reply = server.ask(headers={"x-request-id": "a  b", "TraceId": "t" * 300 + "  "}, body=b"x")
    assert (reply.status, reply.headers["x-request-id"], reply.headers["traceid"]) == (200, "a  b", "t" * 300)
    assert server.ask(headers={"TraceId": ""}, body=b"x").headers["traceid"] == ""
