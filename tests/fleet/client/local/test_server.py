"""``edgefleet serve-local``: the real scoring server at one address, whatever happens to the files behind it."""

import json
import os
import socket
import subprocess
import sys

import pytest

from fleet.client.local.server import seen, target_of
from modules.errors import Invalid
from tests.fleet.client.local.serving import served
from tests.parts.pace import stretched
from tests.parts.programs import until
from tests.parts.warm import ROOT

ANSWERS = "def init():\n    pass\n\n\ndef run(data):\n    return {answer!r}\n"


@pytest.fixture
def script(tmp_path):
    """A folder of its own with a script; gives a function that writes it."""
    file = tmp_path / "source" / "score.py"
    file.parent.mkdir()

    def write(answer="first", code=""):
        file.write_text(code or ANSWERS.format(answer=answer))
        return file

    return write


def test_a_model_of_another_library_is_told_the_way(tmp_path):
    """A pickle is not served as it is; the error says how it becomes a module, and that somebody must trust it."""
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")

    with pytest.raises(Invalid, match="scikit-learn") as refused:
        target_of(tmp_path / "model.pkl")

    assert "--trusted-pickle" in refused.value.remedy


def test_without_the_servers_packages_the_extra_is_named(script, tmp_path):
    """Where only edgefleet[client] is installed, nobody has to guess from the name of a package what is missing."""
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True, timeout=stretched(60))
    command = [
        sys.executable,
        "-m",
        "fleet.client",
        "serve-local",
        str(script()),
        "--interpreter",
        str(bare / "bin/python"),
    ]
    environment = os.environ | {"EDGEFLEET_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [*command, "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=stretched(60),
        check=False,
    )

    assert done.returncode == 1
    assert "install edgefleet[scoring]" in json.loads(done.stdout)["error"]["remedy"]


def test_a_changed_script_is_taken_in_and_a_broken_one_is_not(script, tmp_path):
    """One address throughout: a new version serves once it is ready, one that does not start is said and left aside."""
    with served(script(), tmp_path) as (http, said, _):
        assert http.post("/score", json={}).json() == "first"

        script("second")
        until(
            lambda: http.post("/score", json={}).json() == "second", "the second version serves", within_s=30, said=said
        )

        script(code="def init(:\n")
        until(
            lambda: "what was there before serves on" in said(), "the broken version is refused", within_s=30, said=said
        )
        assert "SyntaxError" in said()

        script("third")
        until(
            lambda: http.post("/score", json={}).json() == "third", "the third version serves", within_s=30, said=said
        )


def test_an_onnx_file_is_served_as_on_a_device(linear_file, tmp_path):
    """A graph needs no script, and the address has the other paths of the scoring server too."""
    with served(linear_file, tmp_path) as (http, _, _):
        assert http.post("/score", json={"x": [[1, 2, 3]]}).json() == {"y": [[16.0, 22.0]]}
        assert http.get("/").status_code == 200
        assert "/score" in http.get("/swagger.json").json()["paths"]


def test_a_first_version_that_does_not_start(script, tmp_path):
    """Nothing is served, and the reason is the command's error."""
    command = [
        sys.executable,
        "-m",
        "fleet.client",
        "serve-local",
        str(script(code="raise KeyError('weights')")),
        "--port",
        "0",
    ]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=stretched(60), check=False)

    assert done.returncode == 1
    assert "ended with exit code 3" in done.stderr
    assert "weights" in done.stderr


def test_an_address_that_is_taken(script):
    """Another program at the address is said, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "fleet.client", "serve-local", str(script()), "--port", str(port)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=stretched(60), check=False)

    assert done.returncode == 1
    assert "--port" in done.stderr


def test_what_can_be_served(linear_file, script, tmp_path):
    """A graph, a folder with one, a script with its model's folder, a module's folder."""
    module = tmp_path / "module"
    module.mkdir()
    (module / "manifest.json").write_text("{}")

    assert target_of(linear_file).arguments == ("--model", str(linear_file))
    assert target_of(tmp_path).arguments == ("--model", str(linear_file))
    assert target_of(module).arguments == ("--module", str(module))
    (module / "run.log").write_text("what a running script writes must not start it again")
    target = target_of(script(), model_dir=module)
    assert target.arguments[2:] == ("--model-dir", str(module))
    assert {path.name for path in seen(target)} == {"score.py", "manifest.json"}


@pytest.mark.parametrize("name", ["missing.onnx", "."])
def test_what_cannot(tmp_path, name):
    """A path with nothing to serve is an error that says what there could be."""
    with pytest.raises(Invalid, match="nothing here"):
        target_of(tmp_path / name)
