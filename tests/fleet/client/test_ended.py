"""A long command that somebody ends in the middle: nothing of it stays, and the next one goes on as if it never was."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.parts.pace import stretched
from tests.parts.programs import until
from tests.parts.warm import ROOT

pytestmark = pytest.mark.long

SLOW = "import time\n\n\ndef init():\n    time.sleep(600)\n\n\ndef run(data):\n    return data\n"


@pytest.fixture
def passing():
    """A folder for passing files with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_registration_that_is_ended_leaves_nothing(user, run, draft, linear_file, tmp_path, passing, number):
    """Ctrl-C, a CI job that is cancelled, a closed terminal: no copy of the model, no server, and no file stays."""
    script, sample = tmp_path / "score.py", tmp_path / "sample.json"
    script.write_text(SLOW)
    sample.write_text("1")
    words = [linear_file, "--entry-script", script, "--sample", sample, "-n", "slow", "--team", "acme"]
    command = [sys.executable, "-m", "fleet.client", "models", "register", *map(str, words), "--engine", "process"]
    environment = os.environ | user.environment | {"TMPDIR": str(passing)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        until(
            lambda: list(passing.glob("edgefleet-*/log")) or process.poll(),
            "the scoring server is started",
            within_s=20,
        )
        process.send_signal(number)
        said = process.communicate(timeout=stretched(60))[0]

    assert (process.returncode, said) == (-number, b"")
    assert list((user.home / "workspace/staging").iterdir()) == []
    assert list(passing.iterdir()) == []
    assert draft(f"after-{number.name.lower()}").endswith(":1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_is_ended_while_it_loads_its_model(tmp_path, passing, number):
    """It ends at once, and not when the model is there, which may take minutes."""
    script = tmp_path / "score.py"
    script.write_text(SLOW)
    command = [sys.executable, "-m", "fleet.client", "serve-local", str(script), "--port", "0"]
    environment = os.environ | {"EDGEFLEET_HOME": str(tmp_path / "home"), "TMPDIR": str(passing)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert "listening" in process.stderr.readline()
        process.send_signal(number)
        said = process.communicate(timeout=stretched(20))[1]

    assert (process.returncode, "Traceback" in said) == (-number, False)
    assert list(passing.iterdir()) == []
