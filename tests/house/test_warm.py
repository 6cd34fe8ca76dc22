"""What a warm process forks is what a new Python would be."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.house.tree import ROOT
from tests.parts import warm

COMMAND = [sys.executable, "-m", "fleet.client"]


def ended(*words, **more):
    """The kind of process, its exit status, and what it wrote on both streams."""
    with TemporaryFile() as out, TemporaryFile() as err:
        with warm.start([*COMMAND, *words], os.environ | more, out, err) as process:
            status = process.wait(60)
        for stream in (out, err):
            stream.seek(0)
        return type(process), status, out.read(), err.read()


@pytest.mark.parametrize("words", [("--version",), ("no-such-command",), ("status", "--json")])
def test_it_writes_and_ends_as_a_new_one_does(tmp_path, words):
    given = {"EDGEFLEET_HOME": str(tmp_path)}
    new = subprocess.run([*COMMAND, *words], cwd=ROOT, env=os.environ | given, capture_output=True, check=False)
    for _ in range(2):
        kind, *told = ended(*words, **given)
        assert kind is warm.Forked
        assert told == [new.returncode, new.stdout, new.stderr]


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONUNBUFFERED", "TZ", "OPENSSL_CONF"])
def test_what_a_python_reads_before_its_first_line_starts_a_new_one(name):
    assert ended("--version", **{name: ""})[0] is subprocess.Popen


def test_it_is_a_process_that_can_be_ended():
    """It has a process id, a working directory and signals of its own, and its status names the signal."""
    with TemporaryFile() as nothing, socket.create_server(("127.0.0.1", 0)) as silent:
        login = [*COMMAND, "login", f"https://127.0.0.1:{silent.getsockname()[1]}", "--token", "x"]
        process = warm.start(login, os.environ, nothing, nothing)
        there, _ = silent.accept()
        assert (process.poll(), Path(f"/proc/{process.pid}/cwd").readlink()) == (None, ROOT)
        process.kill()
        assert process.wait(60) == -9
        there.close()
        process.kill()  # nobody else is hit by it who has this number now
