"""The command itself: quick help, exit codes, and errors in one clear block."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.client.cli import NOUNS, app
from fleet.client.screen import Screen
from tests.parts.pace import stretched

HEAVY = {"docker", "onnx", "numpy", "tuf", "httpx", "cryptography", "securesystemslib"}
LOADED = "import sys; from fleet.client.__main__ import main\ntry: main()\nfinally: print('LOADED', *sys.modules)"


@pytest.fixture
def run(home):
    """Runs a command in this process, for a user who is logged in nowhere."""
    return lambda *words: CliRunner().invoke(app, list(words))


def test_help_loads_nothing_heavy():
    """``edgefleet --help`` is quick because only what it shows is loaded."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "--help"], capture_output=True, text=True, timeout=stretched(60), check=True
    )

    assert "rollouts" in done.stdout
    assert not HEAVY & set(done.stdout.split("LOADED")[1].split())


def test_looking_at_models_loads_no_model_tools():
    """onnx, numpy and docker wait until a model is registered."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "models", "--help"],
        capture_output=True,
        text=True,
        timeout=stretched(60),
        check=True,
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=stretched(60), check=True)

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


@pytest.mark.parametrize("options", [("--server", "--agent"), ("--base", "mine:1")])
def test_images_that_cannot_be_meant_are_not_built(run, options):
    """One image is built at a time, and the scoring image's base is not chosen here: said before Docker is asked."""
    done = run("images", "build", *options)

    assert done.exit_code == 1
    assert "give one of --gateway, --server and --agent" in done.stderr


def test_help_shows_brackets(run):
    """What stands in brackets in a help text is text: nobody is sent to install half a name."""
    assert "[scoring]" in "".join(run("serve-local", "--help").stdout.split())
    assert "[scoring]" in "".join(run("models", "register", "--help").stdout.split())


@pytest.mark.parametrize("words", [("images", "nope"), ("devices", "show"), ("nope",), ("images", "list", "--nope")])
def test_wrong_usage_is_a_document_for_programs(run, words):
    """With --json also a command line that cannot be understood is answered with one document."""
    done = run(*words, "--json")

    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"


def test_the_version(run):
    """``--version`` is a word like another."""
    assert run("--version").stdout.startswith("edgefleet ")


def test_a_file_that_cannot_be_written_is_an_error_with_its_name(run, tmp_path, monkeypatch):
    """A folder that is not there is no traceback, and the server is not asked for a secret that nobody would see."""
    for name, value in {"URL": "http://127.0.0.1:9", "TOKEN": "t"}.items():
        monkeypatch.setenv(f"EDGEFLEET_{name}", value)

    done = run("devices", "join", "--out", str(tmp_path / "no/such/j.json"), "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["element"].endswith("j.json")


@pytest.mark.parametrize("words", [("events", "--device", "g\udce9"), ("rollouts", "show", "g\udce9")])
def test_an_argument_that_is_not_text_is_refused_with_what_to_do(run, monkeypatch, words):
    """Bytes of another encoding than the terminal's: no traceback, and the word is shown."""
    for name, value in {"URL": "http://127.0.0.1:9", "TOKEN": "t"}.items():
        monkeypatch.setenv(f"EDGEFLEET_{name}", value)

    done = run(*words, "--json")

    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert (error["element"], "UTF-8" in error["remedy"]) == ("g\udce9", True)


def test_a_file_whose_name_is_not_text_is_named_in_the_document(run, monkeypatch, tmp_path):
    """The name is in the JSON as Python writes such names."""
    monkeypatch.setenv("EDGEFLEET_HOME", str(tmp_path / "h\udce9"))

    done = run("status", "--json")

    assert json.loads(done.stdout)["error"]["element"].endswith("h\udce9/config.json")


def test_a_document_is_ascii_where_the_terminal_is_not_in_utf_8(monkeypatch):
    """A program reads the same document whatever the locale."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="latin-1", errors="backslashreplace"))

    Screen(as_json=True).show({"said": "gr\xf6\xdfe \u2265 3"}, lambda _: None)

    assert json.loads(written.getvalue().decode("ascii")) == {"said": "gr\xf6\xdfe \u2265 3"}


def test_a_user_without_a_home_folder_is_told_what_to_set(run, monkeypatch):
    """Containers run as users that have none."""
    monkeypatch.setenv("EDGEFLEET_HOME", "~nobody-of-this-name/config")

    done = run("status")

    assert done.exit_code == 1
    assert "set EDGEFLEET_HOME" in done.stderr


def test_a_secret_file_is_there_only_with_the_secret_in_it(run, tmp_path, monkeypatch):
    """Where the server does not answer, no empty file stays, and one that was there is as it was."""
    for name, value in {"URL": "http://127.0.0.1:9", "TOKEN": "t"}.items():
        monkeypatch.setenv(f"EDGEFLEET_{name}", value)
    (tmp_path / "old.json").write_text("old")

    for name in ("new.json", "old.json"):
        assert run("devices", "join", "--out", str(tmp_path / name)).exit_code == 1

    assert [(one.name, one.read_text()) for one in tmp_path.glob("*.json")] == [("old.json", "old")]


@pytest.mark.parametrize("words", [("images", "list"), ("images", "list", "--json"), ("status",)])
def test_a_reader_that_goes_away_is_no_error(home, words):
    """``| head`` leaves no traceback of any library's."""
    command = [sys.executable, "-m", "fleet.client", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        program.stdout.close()
        said = program.stderr.read()

    assert program.returncode == (1 if words == ("status",) else -signal.SIGPIPE)
    assert "Traceback" not in said


def test_a_full_disk_is_one_line(home):
    """Output that cannot be written is an error, not a success."""
    command = [sys.executable, "-m", "fleet.client", "images", "list", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=stretched(60), check=False
        )

    assert (done.returncode, done.stderr) == (1, "edgefleet: the output cannot be written: No space left on device\n")
