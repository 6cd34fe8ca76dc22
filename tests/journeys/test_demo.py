"""``make demo ARGS=--once``: the way that a stranger sees first."""

import json
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
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


@pytest.mark.long
def test_it_runs_without_an_engine(tmp_path):
    """The process engine takes Docker's place where that is asked for, and it says so."""
    done = demo(tmp_path / "demo", "--engine", "process")

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["engine"] == "process"
    assert "isolates nothing" in done.stdout


@pytest.mark.long
@pytest.mark.needs("mosquitto")
def test_simulated_devices_see_a_good_version_and_only_some_a_bad_one(tmp_path):
    """With `--devices` a good version reaches them all in waves, and a bad one is taken back from the first wave."""
    done = demo(tmp_path / "demo", "--engine", "process", "--devices", "20")

    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["simulated"] == {"devices": 20, "good": "done", "bad": "reverted", "touched_by_bad": 1, "waits": "5"}
    assert result["prediction"] == 7
    assert "19 of 20 devices have never seen it" in done.stdout
    assert of_demo(tmp_path / "demo") == []


def test_it_touches_no_folder_that_is_not_a_demos(tmp_path):
    """A folder with somebody's files is refused, and each file is still there."""
    (tmp_path / "thesis.txt").write_text("years of work")
    done = demo(tmp_path, "--engine", "process")

    assert done.returncode == 1
    assert "nothing in it was touched" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGKILL], ids=["terminal closed", "killed"])
def test_what_a_demo_left_is_found_and_ended(tmp_path, how):
    """Whichever way it ended, `--clean` leaves no program and no module of it, and removes its folder."""
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "deploy.demo", "--engine", "process", "--folder", folder]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            if "stays up until" in line:
                break
        assert of_demo(folder)
        running.send_signal(how)
        running.wait(60)
    if how is signal.SIGKILL:
        assert of_demo(folder)
        assert demo(folder, "--clean").returncode == 0
        assert not folder.exists()

    assert of_demo(folder) == []


def of_demo(folder):
    """The command lines of running processes that name this folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = (process / "environ").read_bytes().decode(errors="replace")
                found += [line] if str(folder) in line + environment else []
    return found


@pytest.mark.long
def test_it_names_the_step_that_failed(tmp_path):
    """Where something is in the way, the exit code is not 0 and the message says which step, and why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = demo(tmp_path / "demo", "--engine", "process", "--gateway-port", port)

    assert done.returncode == 1
    assert "step failed: start its agent and its gateway" in done.stderr
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
