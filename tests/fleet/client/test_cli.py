"""The command itself: quick help, exit codes, and errors in one clear block."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fleet.client.cli import NOUNS, app

HEAVY = {"docker", "onnx", "numpy", "tuf", "httpx", "cryptography", "securesystemslib"}
LOADED = "import sys; from fleet.client.__main__ import main\ntry: main()\nfinally: print('LOADED', *sys.modules)"


@pytest.fixture
def run(home):
    """Runs a command in this process, for a user who is logged in nowhere."""
    return lambda *words: CliRunner().invoke(app, list(words))


def test_help_loads_nothing_heavy():
    """``edgefleet --help`` is quick because only what it shows is loaded."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "--help"], capture_output=True, text=True, timeout=60, check=True
    )

    assert "rollouts" in done.stdout
    assert not HEAVY & set(done.stdout.split("LOADED")[1].split())


def test_looking_at_models_loads_no_model_tools():
    """onnx, numpy and docker wait until a model is registered."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "models", "--help"], capture_output=True, text=True, timeout=60, check=True
    )

    assert not {"docker", "onnx", "numpy"} & set(done.stdout.split("LOADED")[1].split())


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_has_its_help(run, noun):
    """Every listed noun can be loaded and explains itself."""
    done = run(noun, "--help")

    assert done.exit_code == 0
    assert "Usage" in done.stdout


def test_the_module_is_the_same_command():
    """``python -m fleet.client`` is ``edgefleet``."""
    command = [sys.executable, "-m", "fleet.client", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert "Usage: edgefleet" in done.stdout


@pytest.mark.parametrize(
    "words", [("modles",), ("models", "regster"), ("rollouts", "start", "acme/a:1", "--slot", "a"), ("devices", "show")]
)
def test_wrong_usage_is_exit_code_2(run, words):
    """A mistyped command is told apart from one that failed."""
    assert run(*words).exit_code == 2


def test_a_misspelt_noun_is_guessed(run):
    """The likely word is named."""
    assert "'models'" in run("modles").stderr


def test_an_error_says_what_where_and_what_to_do(run, home):
    """One block on stderr, nothing on stdout, exit code 1."""
    done = run("status")

    assert done.exit_code == 1
    assert done.stdout == ""
    assert "Error: no fleet server's address is known" in done.stderr
    assert f"where: {home / 'config.json'}" in done.stderr
    assert "what to do: run: edgefleet login" in done.stderr


def test_an_error_is_a_document_for_programs(run):
    """With --json stdout holds one JSON document even when the command fails."""
    done = run("status", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["code"] == "bad-settings"


def test_an_empty_workspace_says_how_to_begin(run):
    """No images: the next command is named; as JSON the list is empty."""
    assert "edgefleet images build" in run("images", "list").stdout
    assert json.loads(run("images", "list", "--json").stdout) == []
