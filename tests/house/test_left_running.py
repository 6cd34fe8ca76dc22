"""Tests that leave processes behind are found: each test here runs pytest on a file that does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from tests.parts.left_running import running
from tests.parts.pace import stretched

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are looked for in /proc")

CONFTEST = """
import subprocess
import pytest
import tests.parts.left_running
from tests.conftest import pytest_configure
from tests.parts.programs import Program

tests.parts.left_running.GRACE_S = 1.0

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    command = ["sh", "-c", "env -i sleep 20 & exec sleep 603"]  # its child has lost our mark, as PostgreSQL's do
    program = Program("sleep", command, tmp_path_factory.mktemp("log") / "log")
    program.start()
    yield program
    program.kill()
"""
IMPORTS = "import os, socket, subprocess, sys, time\nfrom tests.parts import warm\nsilent = []\n"
LEAKS = {
    "child": 'subprocess.Popen(["sleep", "600"])',
    "orphan": 'subprocess.run(["sh", "-c", "sleep 600 &"], check=True)',
    "session": 'subprocess.Popen(["sleep", "600"], start_new_session=True)',
    "no_environment": 'subprocess.Popen(["sleep", "600"], env={})',
    "forked": (
        'silent.append(socket.create_server(("127.0.0.1", 0))); '
        'login = ["login", f"https://127.0.0.1:{silent[0].getsockname()[1]}", "--token", "600"]; '
        'nothing = open("/dev/null", "wb"); '
        'warm.start([sys.executable, "-m", "fleet.client", *login], os.environ, nothing, nothing); '
        "silent.append(silent[0].accept())"
    ),
    "deaf": "subprocess.run(['sh', '-c', 'trap \"\" TERM; (while :; do sleep 600; done) &'], check=True)",
}


@pytest.fixture
def run(tmp_path):
    """Runs pytest on files of tests, given by name and body; returns what it printed, and whether all was well."""

    def ran(files, *arguments):
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "conftest.py").write_text(CONFTEST)
        for name, text in files.items():
            (tmp_path / f"test_{name}.py").write_text(f"{IMPORTS}{text}")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-W", "ignore", "--no-cov", *arguments, tmp_path],
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=stretched(60),
            check=False,
        )
        return done.stdout + done.stderr, done.returncode == 0

    return ran


def ended(said):
    """The processes that were named are no more, but for whoever adopted them to wait for them."""
    named = [int(number) for number in re.findall(r"left process (\d+) running", said)]
    return named and not any(running(number) for number in named)


def two(leak):
    """A test that leaves something behind, and one after it that does not."""
    return f"def test_it():\n    {leak}\ndef test_after():\n    pass\n"


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.long), "2"])
def test_what_is_left_running_is_named_and_ended(run, workers):
    """Children, orphans and what is in another session fail the last test of the file, by the name of who left them."""
    said, well = run({name: two(leak) for name, leak in LEAKS.items()}, "-n", workers, "--dist", "loadfile")

    assert not well
    for name in LEAKS:
        who = "a test of this file" if name == "no_environment" else rf"test_{name}.py::test_it \(call\)"
        assert re.search(rf"{who} left process \d+ running: .*600", said), said
    assert "12 passed, 6 errors" in said
    assert "tests.parts.warm" not in said
    assert ended(said)


def test_what_ends_soon_and_what_all_tests_share(run):
    """What ends by itself soon is no fault, nor what the whole session has, even where a test started it again."""
    soon = two('subprocess.run(["sh", "-c", "sleep 0.3 &"], check=True)')
    sharing = "def test_it(shared):\n    assert shared.runs\n    shared.kill()\n    shared.start()\n"

    assert run({"one": sharing, "soon": soon, "three": sharing})[1]


@pytest.mark.long
def test_a_teardown_that_fails(run):
    """What is left is ended, and told beside the failure of a teardown."""
    body = 'subprocess.Popen(["sleep", "600"])\n    yield\n    assert "this" == "that"'
    fixture = f"import pytest\n@pytest.fixture\ndef it():\n    {body}\n"
    said, well = run({"one": f"{fixture}def test_it(it):\n    pass\n"})

    assert not well
    assert "assert 'this' == 'that'" in said
    assert "test_one.py::test_it (setup) left process" in said
    assert ended(said)


@pytest.mark.long
def test_an_early_end(run):
    """A run that stops at its first failure ends what is left too."""
    failing = 'def test_it():\n    subprocess.Popen(["sleep", "600"])\n    assert False\ndef test_after():\n    pass\n'
    said, well = run({"one": failing}, "-x")

    assert not well
    assert "test_one.py::test_it (call) left process" in said
    assert ended(said)
