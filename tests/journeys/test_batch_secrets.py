"""A secret on its way to a batch job on a container host, through kills of the job, its memory and the server."""

import hashlib
import json
import os
import secrets

import pytest

from tests.journeys.test_batch import answers_in, engine, gone, job, of_job, places, start
from tests.journeys.test_secrets import spellings, where
from tests.parts.programs import CommandFailed

pytestmark = pytest.mark.long

__all__ = ["engine", "places"]

NAME = f"reads-{os.getpid()}"
COUNT = 200
SCRIPT = """
import hashlib, json, pathlib, time
FILE = pathlib.Path("/run/secrets/..data/token")
KNOWN = FILE.read_bytes() if FILE.exists() else b""  # where it is registered there is none
def run(data):
    time.sleep(0.05)
    return hashlib.sha256(KNOWN).hexdigest() + json.loads(data)
"""


@pytest.fixture
def reader(system, tmp_path):
    """A signed module whose answers tell, by a hash, which value its server read at its start."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/score.py").write_text(SCRIPT)
    (tmp_path / "model.txt").write_text("none")
    (tmp_path / "one.json").write_text('{"body": "a"}')
    options = ["--entry-script", "score.py", "--source-dir", tmp_path / "source", "--sample", tmp_path / "one.json"]
    return system.sign(system.register(tmp_path / "model.txt", "reader", *options, "--secret", "token"))


def container(engine, part):
    label = [f"edgefleet.cloud.job={NAME}", f"edgefleet.cloud.part={part}"]
    (found,) = engine.containers.list(filters={"label": label})
    return found


def test_a_job_has_its_secret_whenever_it_runs_and_nothing_else_does(system, engine, places, reader, tmp_path):
    """Missing, it is said before anything begins. Each answer is by the value, though job, memory and server are killed
    in the middle; it is in no log, variable, answer, label or file of a disk, and nothing of it is left at the end."""
    folder, volume = places
    value = f"planted-{secrets.token_hex(16)}"
    (folder / "a.jsonl").write_text("".join(f'"{number}"\n' for number in range(COUNT)))
    with pytest.raises(CommandFailed, match="not given: token") as refusal:
        start(system, places, NAME, reader)
    assert f"edgefleet batch start {NAME} ... --secret token=FILE" in str(refusal.value)
    assert of_job(engine, NAME) == []

    file = tmp_path / "token"
    file.write_text(value)
    seen = [json.dumps(start(system, places, NAME, reader, "--secret", f"token={file}", "--mini-batch", "2"))]
    file.unlink()
    job(system, NAME, lambda one: one["state"] == "running")
    # As after a power cut: both end, and the memory is empty.
    for part in ("secrets", "job"):
        container(engine, part).kill()
    job(system, NAME, lambda one: one["starts"] == 2 and one["state"] == "running")
    system.kill_server()
    container(engine, "job").kill()
    system.start_server()
    job(system, NAME, lambda one: one["starts"] == 3 and one["state"] == "running")
    for part in ("secrets", "job"):
        one = container(engine, part)
        seen += [json.dumps(engine.api.inspect_container(one.id)), one.logs().decode()]
        seen.append(one.exec_run(["python", "-c", "print(open('/proc/1/environ').read())"]).output.decode())
    seen.append(json.dumps([one.attrs for one in engine.volumes.list()]))

    done = system.cli("batch", "show", NAME, "--wait")
    assert (done["state"], done["answered"], done["set_aside"], done["starts"]) == ("done", COUNT, 0, 3), done
    gone(system, engine, NAME)
    known = hashlib.sha256(value.encode()).hexdigest()
    found = answers_in(engine, volume, f"{NAME}/answers.jsonl")
    assert [one["answer"] for one in found] == [f"{known}{number}" for number in range(COUNT)]
    seen += [json.dumps(system.api(path)) for path in (f"batch-jobs/{NAME}", "batch-jobs", "events", "modules")]
    assert [one for one in spellings(value) if one in "".join(seen).encode()] == []
    assert where(system, value) == []
