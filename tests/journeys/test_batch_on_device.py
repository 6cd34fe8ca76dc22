"""A folder of inputs through a module on a device while nobody asks it: real agent, gateway, engine and broker."""

import json
import secrets

import pytest

from agent.engines.docker_spec import USER
from tests.parts import slow_script
from tests.parts.programs import until

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
    assert edge.score(SLOT, b'"y"').document == "y!"
    paused = job(system, edge, name, lambda one: one["state"] == "paused")
    assert "applications have asked" in paused["why"]
    edge.until(lambda: not containers(edge), "its container has gone")
    done = system.cli("batch", "show", name, "--wait")
    assert (done["state"], done["answered"], done["set_aside"]) == ("done", 119, 1), done
    assert [one["answer"] for one in lines(edge.answers / name / "answers.jsonl")] == slow_script.answers(120)
    assert [one["kind"] for one in lines(edge.answers / name / "set-aside.jsonl")] == ["poison"]
    edge.until(lambda: not containers(edge), "nothing of it is left")
    assert edge.score(SLOT, b'"z"').document == "z!"
    assert any(f"batch job {name}" in json.dumps(one) for one in system.api("events?limit=20&kind=batch-done"))
    assert (edge.answers / name / "answers.jsonl").stat().st_uid == USER
