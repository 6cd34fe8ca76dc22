"""A folder of inputs through a module on a device while nobody asks it: real agent, gateway, engine and broker."""

import json
import os
import secrets

import pytest

from agent.engines.docker_spec import USER
from tests.parts import slow_script
from tests.parts.programs import CommandFailed, until

SLOT = "slow"


@pytest.fixture(scope="module")
def slow(system, tmp_path_factory):
    return slow_script.registered(system, tmp_path_factory.mktemp("slow-on-device"))


@pytest.fixture(scope="module")
def edge(system, slow, shared_device, tmp_path_factory):
    """A device whose owner allows two folders, serving the module, never too busy for a job but by requests."""
    pictures, answers = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("answers")
    for folder in (pictures, answers):
        folder.chmod(0o755)
    made = shared_device(
        "idle",
        batch_inputs=f"pictures={pictures}",
        batch_outputs=f"answers={answers}",
        batch_idle_s="2",
        batch_others_cpu="1",
    )
    made.pictures, made.answers = pictures, answers
    rollout = system.ended(system.start_rollout(slow, made.name, slot=SLOT), said=made.said)
    assert rollout["state"] == "done", made.said()
    return made


def start(system, edge, module, name, *more):
    return system.cli("batch", "start", name, "--device", edge.name, "--module", module,
                      "--inputs", "pictures", "--outputs", "answers", *more)  # fmt: skip


def job(system, edge, name, wanted, within_s=90):
    def there():
        found = system.api(f"batch-jobs/{name}")
        return found if wanted(found) else None

    def said():
        return f"{json.dumps(system.api(f'batch-jobs/{name}'))}\n{edge.said()}"

    return until(there, f"batch job {name}", within_s=within_s, said=said)


def containers(edge):
    """Those of jobs; the others are slots'."""
    with edge.containers() as found:
        return [one for one in found if one.labels["edgefleet.instance"].startswith("batch.")]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def answered(edge, name):
    """How many answers its journal has by now."""
    journal = edge.answers / name / ".state/worker-0.jsonl"
    return journal.read_bytes().count(b'"answer"') if journal.exists() else 0


def test_it_runs_while_nobody_asks(system, edge, slow):
    """It waits for the first quiet moment, pauses for a request, goes on, and is told of; each input counts once."""
    name = f"night-{secrets.token_hex(3)}"
    (edge.pictures / "a.jsonl").write_text(slow_script.lines(120))
    assert edge.score(SLOT, b'"x"').document == "x!"
    made = start(system, edge, slow, name, "--mini-batch", "2")
    assert (made["state"], made["device"], made["target"]) == ("starting", edge.name, None)
    edge.until(lambda: answered(edge, name) > 5, "it has begun")
    (container,) = containers(edge)
    host = container.attrs["HostConfig"]
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert (host["CpuShares"], host["OomScoreAdj"], host["RestartPolicy"]["Name"]) == (2, 1000, "no")
    mounts = {one["Destination"]: (one["Source"], one["RW"]) for one in container.attrs["Mounts"]}
    assert mounts["/inputs"] == (str(edge.pictures), False)
    assert mounts["/outputs"] == (str(edge.answers / name), True)
    assert set(mounts) == {"/inputs", "/outputs", "/module"}
    job(system, edge, name, lambda one: one["state"] == "running")
    assert edge.score(SLOT, b'"y"').document == "y!"
    job(system, edge, name, lambda one: one["state"] == "paused" and "applications have asked" in one["why"])
    edge.until(lambda: not containers(edge), "its container has gone")
    done = system.cli("batch", "show", name, "--wait")
    assert (done["state"], done["answered"], done["set_aside"]) == ("done", 119, 1), done
    assert [one["answer"] for one in lines(edge.answers / name / "answers.jsonl")] == slow_script.answers(120)
    assert [one["kind"] for one in lines(edge.answers / name / "set-aside.jsonl")] == ["poison"]
    edge.until(lambda: not containers(edge), "nothing of it is left")
    assert edge.score(SLOT, b'"z"').document == "z!"
    assert any(f"batch job {name}" in json.dumps(one) for one in system.api("events?limit=20&kind=batch-done"))
    assert (edge.answers / name / "answers.jsonl").stat().st_uid == USER


@pytest.mark.long
def test_it_outlives_every_kill(system, edge, slow):
    """The container, the agent, the server: it goes on where it was, and each input counts once."""
    name = f"kills-{secrets.token_hex(3)}"
    (edge.pictures / "a.jsonl").write_text(slow_script.lines(300))
    start(system, edge, slow, name, "--mini-batch", "2")
    edge.until(lambda: answered(edge, name) > 5, "it has begun")
    (container,) = containers(edge)
    container.kill()
    edge.until(lambda: (now := containers(edge)) and now[0].id != container.id, "it was begun again")
    edge.until(lambda: answered(edge, name) > 30, "it goes on")
    edge.agent.kill()
    system.kill_server()
    (container,) = containers(edge)
    container.kill()
    before = answered(edge, name)
    system.start_server()
    edge.agent.start()
    edge.until(lambda: answered(edge, name) > before, "it goes on")
    done = system.cli("batch", "show", name, "--wait")
    assert (done["state"], done["answered"], done["set_aside"]) == ("done", 299, 1), done
    assert [one["answer"] for one in lines(edge.answers / name / "answers.jsonl")] == slow_script.answers(300)
    edge.until(lambda: not containers(edge), "nothing of it is left")


@pytest.mark.long
def test_it_ends_when_it_is_cancelled_and_is_refused_where_nobody_allowed_it(system, edge, slow):
    """What was answered stays, and the next job of its name goes on there. A device says itself what it does not do."""
    name = f"cancel-{secrets.token_hex(3)}"
    (edge.pictures / "a.jsonl").write_text("".join(f'"{number}"\n' for number in range(200)))
    # What a link leads to lies in the container, where it is not; and nobody reads a terabyte.
    (edge.pictures / "passwd.json").symlink_to("/etc/machine-id")
    (edge.pictures / "huge.bin").touch()
    os.truncate(edge.pictures / "huge.bin", 1 << 40)
    start(system, edge, slow, name)
    edge.until(lambda: answered(edge, name) > 5, "it has begun")
    system.cli("batch", "cancel", name)
    edge.until(lambda: not containers(edge), "its container has gone")
    until(lambda: again(system, edge, slow, name), "the name is free", within_s=60)
    done = system.cli("batch", "show", name, "--wait")
    assert (done["state"], done["answered"], done["set_aside"]) == ("done", 200, 2), done
    aside = {one["input"]: one["kind"] for one in lines(edge.answers / name / "set-aside.jsonl")}
    assert aside == {"huge.bin": "unreadable", "passwd.json": "unreadable"}
    for place in ("secrets", "answers"):
        other = f"other-{secrets.token_hex(3)}"
        system.cli("batch", "start", other, "--device", edge.name, "--module", slow,
                   "--inputs", place, "--outputs", "images")  # fmt: skip
        refused = job(system, edge, other, lambda one: one["state"] == "failed")
        assert "the owner of this device has given no folder this name" in refused["why"]
    for odd in ("passwd.json", "huge.bin"):
        (edge.pictures / odd).unlink()


def again(system, edge, slow, name):
    """Start it, if the last one of its name has gone."""
    try:
        return start(system, edge, slow, name)
    except CommandFailed:
        return None
