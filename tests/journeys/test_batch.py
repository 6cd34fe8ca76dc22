"""A folder of inputs through a module in the real scoring image, by the commands that an engineer types."""

import json
import os
import signal
import subprocess
import sys

import pytest

from modules import manifest
from modules.digests import measure_bytes
from tests.parts import digits
from tests.parts import docker as docker_parts
from tests.parts.programs import until

SLOW = """
import json, os, time
def run(data):
    time.sleep(0.05)
    if json.loads(data) == "die": os.kill(os.getpid(), 9)
    return json.loads(data) + "!"
"""


@pytest.fixture(scope="module")
def engine():
    client = docker_parts.client()
    yield client
    client.close()


def script_module(folder, text):
    """A module's folder with one script."""
    (folder / "files/source").mkdir(parents=True)
    (folder / "files/model").mkdir()
    (folder / "files/source/score.py").write_text(text)
    blob = measure_bytes(text.encode())
    document = manifest.Manifest(
        team="acme", name="slow", version="1", serve=manifest.EntryScript(script="source/score.py"),
        files=(manifest.File(blob.sha256, blob.length, blob.blocks, path="source/score.py"),),
        runtimes=(manifest.Runtime(),), proof=manifest.Proof(prove="ready-only"),
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(manifest.encode(document))
    return folder


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def running(engine, outputs):
    """The containers that have this folder mounted."""
    return docker_parts.containers_upon(engine, outputs.resolve())


def test_digits_are_recognised_here(system, engine, digits_module, folders):
    """Each file has its answer, what is no image of a digit its reason; a second time nothing is asked."""
    inputs, outputs = folders
    for number, question in enumerate(digits.QUESTIONS):
        (inputs / f"{number:03}.json").write_bytes(question.body)
    (inputs / "zzz.json").write_text("nonsense")
    command = ("batch", "run", digits_module, "--inputs", inputs, "--outputs", outputs)
    planned = system.cli(*command, "--dry-run")
    assert (planned["items"], planned["done"], outputs.exists()) == (len(digits.QUESTIONS) + 1, 0, False)
    done = system.cli(*command, "--workers", "2")
    assert (done["answered"], done["set_aside"]) == (len(digits.QUESTIONS), 1)
    answers = lines(outputs / "answers.jsonl")
    wrong = [question.wrong(json.dumps(one["answer"]).encode())
             for one, question in zip(answers, digits.QUESTIONS, strict=True)]  # fmt: skip
    assert not any(wrong)
    assert lines(outputs / "set-aside.jsonl")[0]["kind"] == "refused"
    assert not running(engine, outputs)
    before = (outputs / "answers.jsonl").stat().st_mtime_ns
    assert system.cli(*command, "--dry-run")["done"] == done["items"]
    assert system.cli(*command)["answered"] == done["answered"]
    assert (outputs / "answers.jsonl").stat().st_mtime_ns >= before


def test_killed_it_goes_on(system, engine, folders, tmp_path):
    """The container is killed in the middle, then the command: each input counts once, and poison is set aside."""
    inputs, outputs = folders
    (inputs / "a.jsonl").write_text("".join(f'"{"die" if n == 7 else n}"\n' for n in range(120)))
    module = script_module(tmp_path / "module", SLOW)
    words = ["batch", "run", module, "--inputs", inputs, "--outputs", outputs, "--image", "scoring:cpu", "--json"]

    def started(least):
        process = subprocess.Popen([sys.executable, "-m", "fleet.client", *map(str, words)],
                                   env=os.environ | system.home, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)  # fmt: skip
        journal = outputs / ".edgefleet-batch/worker-0.jsonl"
        until(
            lambda: journal.exists() and journal.read_bytes().count(b'"answer"') >= least,
            f"{least} inputs are answered", within_s=60, said=lambda: f"{process.poll()}",
        )  # fmt: skip
        return process

    process = started(5)
    (container,) = running(engine, outputs)
    host = engine.containers.get(container).attrs["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    engine.containers.get(container).kill()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(out)["error"]["code"] == "not-ready"

    process = started(25)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (container,) = running(engine, outputs)

    done = system.cli(*words[:-1])
    assert (done["items"], done["answered"], done["set_aside"]) == (120, 119, 1)
    assert [one["answer"] for one in lines(outputs / "answers.jsonl")] == [f"{n}!" for n in range(120) if n != 7]
    assert [one["kind"] for one in lines(outputs / "set-aside.jsonl")] == ["poison"]
    assert not running(engine, outputs)
