"""A folder of inputs through a module in the real scoring image, by the commands that an engineer types."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile

import pytest

from modules import manifest
from modules.digests import measure_bytes
from tests.parts import digits, slow_script
from tests.parts import docker as docker_parts
from tests.parts.presence import engine_socket
from tests.parts.programs import CommandFailed, until


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


@pytest.mark.long
def test_killed_it_goes_on(system, engine, folders, tmp_path):
    """The container is killed in the middle, then the command: each input counts once, and poison is set aside."""
    inputs, outputs = folders
    (inputs / "a.jsonl").write_text(slow_script.lines(120))
    module = script_module(tmp_path / "module", slow_script.SCRIPT)
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
    assert [one["answer"] for one in lines(outputs / "answers.jsonl")] == slow_script.answers(120)
    assert [one["kind"] for one in lines(outputs / "set-aside.jsonl")] == ["poison"]
    assert not running(engine, outputs)


# On a target: names that no other run of these tests has on this engine
NIGHT, AGAIN = f"night-{os.getpid()}", f"again-{os.getpid()}"


@pytest.fixture(scope="module")
def slow(system, tmp_path_factory):
    return slow_script.registered(system, tmp_path_factory.mktemp("slow"))


@pytest.fixture(scope="module")
def places(system, engine, tmp_path_factory):
    """This machine's engine as a target, with a folder for inputs and a volume for answers."""
    folder = tmp_path_factory.mktemp("inputs")
    folder.chmod(0o755)
    volume = engine.volumes.create(f"batch-journey-{os.getpid()}").name
    system.cli("targets", "attach", "batch-host", "--docker", f"unix://{engine_socket()}",
               "--gateway-image", docker_parts.gateway_image(engine),
               "--batch-place", folder, "--batch-place", volume)  # fmt: skip
    yield folder, volume
    engine.volumes.get(volume).remove(force=True)


def start(system, places, name, module, *more):
    folder, volume = places
    return system.cli("batch", "start", name, "--target", "batch-host", "--module", module,
                      "--inputs", folder, "--outputs", volume, *more)  # fmt: skip


def answers_in(engine, volume, path):
    """A file of the volume, once its job is gone."""
    image = docker_parts.scoring_image(engine)
    reader = engine.containers.create(image, volumes={volume: {"bind": "/v", "mode": "ro"}})
    try:
        stream, _ = reader.get_archive(f"/v/{path}")
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
            return [json.loads(line) for line in tar.extractfile(tar.getmembers()[0]).read().splitlines()]
    finally:
        reader.remove(force=True)


def of_job(engine, name):
    label = {"label": f"edgefleet.cloud.job={name}"}
    containers = engine.containers.list(all=True, filters=label, ignore_removed=True)
    return [one.id for one in containers] + [one.name for one in engine.volumes.list(filters=label)]


def gone(system, engine, name):
    """Once nothing is left of it on the host."""

    def said():
        return f"{of_job(engine, name)} {system.api(f'batch-jobs/{name}')}"

    until(lambda: not of_job(engine, name), "nothing is left of it", within_s=60, said=said)


def job(system, name, wanted, within_s=90):
    def there():
        found = system.api(f"batch-jobs/{name}")
        return found if wanted(found) else None

    return until(there, f"batch job {name}", within_s=within_s,
                 said=lambda: json.dumps(system.api(f"batch-jobs/{name}")))  # fmt: skip


@pytest.mark.long
def test_on_a_target_it_outlives_the_server_and_its_own_end(system, engine, places, slow):
    """The container is killed, then the server: each input counts once, poison is set aside, and nothing is left."""
    folder, volume = places
    (folder / "a.jsonl").write_text(slow_script.lines(200))
    start(system, places, NIGHT, slow, "--mini-batch", "2")
    job(system, NIGHT, lambda one: one["state"] == "running")
    (container,) = engine.containers.list(filters={"label": f"edgefleet.cloud.job={NIGHT}"})
    host = container.attrs["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    container.kill()
    job(system, NIGHT, lambda one: one["starts"] == 2)
    assert "job" in system.cli("batch", "logs", NIGHT)
    system.kill_server()
    system.start_server()
    done = system.cli("batch", "show", NIGHT, "--wait")
    assert (done["state"], done["answered"], done["set_aside"], done["starts"]) == ("done", 199, 1, 2), done
    gone(system, engine, NIGHT)
    found = answers_in(engine, volume, f"{NIGHT}/answers.jsonl")
    assert [one["answer"] for one in found] == slow_script.answers(200)
    assert [one["kind"] for one in answers_in(engine, volume, f"{NIGHT}/set-aside.jsonl")] == ["poison"]
    assert any("batch-done" in json.dumps(one) for one in system.api("events?limit=20"))


@pytest.mark.long
def test_a_job_that_is_cancelled_leaves_nothing_and_goes_on_under_its_name(system, engine, places, slow):
    """Its answers so far stay: the next job of that name needs fewer."""
    folder, _ = places
    (folder / "a.jsonl").write_text("".join(f'"{n}"\n' for n in range(100)))
    start(system, places, AGAIN, slow)
    job(system, AGAIN, lambda one: one["state"] == "running" and one["answered"] >= 0)
    system.cli("batch", "cancel", AGAIN)
    gone(system, engine, AGAIN)
    job(system, AGAIN, lambda one: one["state"] == "cancelled")
    assert until(lambda: tried(system, places, slow), "the name is free", within_s=20)
    done = system.cli("batch", "show", AGAIN, "--wait")
    assert (done["state"], done["answered"]) == ("done", 100)
    (folder / "b.json").write_text('"z"')
    assert until(lambda: tried(system, places, slow), "the name is free", within_s=20)
    failed = job(system, AGAIN, lambda one: one["state"] == "failed")
    assert "other inputs" in failed["why"]
    gone(system, engine, AGAIN)


def tried(system, places, slow):
    """Start it, if the last one of its name has gone."""
    try:
        return start(system, places, AGAIN, slow)
    except CommandFailed:
        return None
