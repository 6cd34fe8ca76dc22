"""``make demo ARGS=--once``: the way that a stranger sees first."""

import json
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.parts import docker as docker_parts

ROOT = Path(__file__).parents[2]
WITHIN_S = 240


@pytest.fixture(scope="module")
def engine():
    """A container engine with the base image, which no registry can be asked for here."""
    with docker_parts.engine(), closing(docker_parts.client()) as client:
        docker_parts.python_slim(client)
        yield client


def demo(folder, *arguments):
    command = [sys.executable, "-m", "deploy.demo", "--once", "--folder", folder, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)


def test_it_ends_with_the_right_digit(engine, tmp_path):
    """From keys to a scored digit through mosquitto and Docker; the last line is JSON, and no container stays."""
    done = demo(tmp_path / "demo")

    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["prediction"], result["expected"]) == (7, 7)
    assert (result["engine"], result["broker"], result["provider"]) == ("docker", "mosquitto", "CPUExecutionProvider")
    assert 1 <= result["seconds"]["order_to_committed"] < 60
    assert result["seconds"]["first_score"] < 5
    assert "it is a 7" in done.stdout
    assert "██" in done.stdout
    assert docker_parts.containers_upon(engine, tmp_path) == []


def test_it_runs_without_an_engine(tmp_path):
    """The process engine takes Docker's place where that is asked for, and it says so."""
    done = demo(tmp_path / "demo", "--engine", "process")

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["engine"] == "process"
    assert "isolates nothing" in done.stdout


def test_it_names_the_step_that_failed(tmp_path):
    """Where something is in the way, the exit code is not 0 and the message says which step, and why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = demo(tmp_path / "demo", "--engine", "process", "--gateway-port", port)

    assert done.returncode == 1
    assert "step failed: start its agent and its gateway" in done.stderr
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
