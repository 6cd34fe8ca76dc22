"""Versions that pass every proof and behave badly only once applications use them: stopped in their first wave."""

import json
import shutil
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from fleet.client.publishing.pack import write_manifest
from fleet.client.publishing.publish import publish
from fleet.client.workspace import FILES
from modules.names import ModuleRef
from tests.parts import digits
from tests.parts.programs import until
from tests.parts.traffic import Question, Traffic

pytestmark = pytest.mark.long

SLOT = "parity"
OPENVINO = "OpenVINOExecutionProvider"
# Slow enough that a module which takes three times as long stands out of a busy machine's noise.
USUAL_S = 0.03
SCRIPT = """
import json, time
KEPT, asked = [], 0
def init():
    pass
def run(data):
    global asked
    asked += 1
    x = json.loads(data)["x"]
    time.sleep({seconds})
    {flaw}
    return {{"half": [x / 2], "label": ["odd" if x % 2 else "even"]}}
"""
LATE = 400
CRASH = "import os, signal, threading; threading.Timer(1, os.kill, (os.getppid(), signal.SIGTERM)).start()"
SAMPLES = (1, 2)
# What applications ask is none of the samples.
ASKED = range(100, 110)
# The gate that stops it, and what the version does that the first did not.
FLAWS = {
    "slow": ({"measure": "p50_ms", "at_most_times": 2.0, "minimum": 20}, {"seconds": 3 * USUAL_S}),
    "nan": (
        {"measure": "nan_percent", "at_most": 0, "minimum": 5},
        {"flaw": 'if x > 99: return {"half": [float("nan")], "label": ["even"]}'},
    ),
    "leak": (
        {"measure": "memory_growth_mb_h", "at_most": 1500},
        {"flaw": "KEPT.append(b'x' * 30_000)"},
    ),
    "wrong": ({"measure": "sample_percent", "at_least": 100, "minimum": 2}, {"flaw": "x += asked > 20"}),
    # Long after its commit, of its own accord, with no request in its hands.
    "crash": ({"measure": "restarts", "at_most": 0}, {"flaw": f"if asked == {LATE}: {CRASH}"}),
}
SAID = {"crash": "1 restarts, 0 are allowed"}


def right(x):
    expected = {"half": [x / 2], "label": ["odd" if x % 2 else "even"]}

    def wrong(answer):
        return "" if json.loads(answer) == expected else f"{answer!r} for {x}"

    return Question(json.dumps({"x": x}).encode(), wrong)


QUESTIONS = [right(x) for x in ASKED]


@pytest.fixture(scope="module")
def registered(system, tmp_path_factory):
    """Makes a version of the script, registered and signed."""

    def make(*, flaw="pass", seconds=USUAL_S):
        folder = tmp_path_factory.mktemp("parity")
        (folder / "source").mkdir()
        (folder / "model").mkdir()
        (folder / "model" / "nothing.txt").write_text("a script without a model")
        (folder / "source" / "score.py").write_text(SCRIPT.format(flaw=flaw, seconds=seconds))
        options = ["--entry-script", "score.py", "--source-dir", folder / "source"]
        for number in SAMPLES:
            sample = folder / f"{number}.json"
            sample.write_text(json.dumps({"body": {"x": number}}))
            options += ["--sample", sample]
        return system.sign(system.register(folder / "model", "parity", *options))

    return make


@pytest.fixture(scope="module")
def first(registered):
    return registered()


@pytest.fixture(scope="module")
def pair(system, shared_device, first):
    """Two devices that serve version 1."""
    made = [shared_device(f"dev-gates-{name}") for name in ("a", "b")]
    rollout = system.ended(system.start_rollout(first, *(one.name for one in made), slot=SLOT), said=made[0].said)
    assert rollout["state"] == "done"
    return made


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_version_that_behaves_badly_is_stopped_in_its_first_wave(system, pair, first, registered, tmp_path, flaw):
    """It passes its proof and is committed on one device, which measures what the gate forbids: that device goes back,
    no application gets an error of a module that runs, and the other device never sees it."""
    gate, change = FLAWS[flaw]
    bad = registered(**change)
    policy = {
        "waves": [{"count": 1}, {"percent": 100}],
        "gates": [{**gate, "window_s": 5}],
        "soak": "10m",
        "on_failure": "revert",
        "deadline": "1h",
    }
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    with ExitStack() as stack:
        traffic = {
            one.name: stack.enter_context(Traffic(one.port, f"/{SLOT}/score", QUESTIONS, every_s=0.05)) for one in pair
        }
        pair[0].until(lambda: all(len(one.answers) > 20 for one in traffic.values()), "applications get answers")
        rollout = system.start_rollout(bad, *traffic, slot=SLOT, more=("--policy", str(file)))
        until(
            lambda: system.api(f"rollouts/{rollout}")["state"] == "reverted",
            "it is taken back",
            within_s=120,
            said=lambda: f"{json.dumps(system.api(f'rollouts/{rollout}'), indent=1)}\n{pair[0].said()}",
        )
    said = system.cli("rollouts", "show", rollout)
    (canary,) = [one["device"] for one in said["devices"] if one["wave"] == 1]
    (other,) = traffic.keys() - {canary}

    assert SAID.get(flaw, f"{gate['measure']} is ") in json.dumps(said["history"]), said["history"]
    assert system.report(canary)["slots"][0]["serving"]["module"] == first
    assert bad in {module for client in traffic[canary].modules() for module in client}
    if flaw != "crash":  # while it starts again, nobody answers
        assert [one for one in traffic[canary].answers if one.status != 200] == []
    assert traffic[other].modules() == ([first], [first])
    assert traffic[other].failed == []


@pytest.fixture(scope="module")
def misplaced(system, digits_module):
    """The digits, made for an execution provider with which the image's ONNX Runtime was not built."""
    ref = ModuleRef.parse(digits_module)
    manifest, _ = system.workspace.manifest(ref)
    runtimes = tuple(replace(one, providers=(OPENVINO, *one.providers)) for one in manifest.runtimes)
    changed = replace(manifest, name="misplaced", version="1", runtimes=runtimes)
    with system.fleet() as fleet, system.workspace.staging() as folder:
        shutil.copytree(system.workspace.module(ref) / FILES, folder / FILES)
        write_manifest(changed, folder)
        made = publish(changed, folder, fleet, system.workspace, lambda *_: None)
    return system.sign(str(made.manifest.ref))


def test_a_version_that_runs_on_the_processor_instead_is_stopped_in_its_first_wave(
    system, pair, digits_module, misplaced, tmp_path
):
    """ONNX Runtime falls back to the processor without a word, and answers rightly there; the device says which it is.

    No machine of these tests has an accelerator. The provider that is asked for is one for which none is needed, so
    that device, container and ONNX Runtime are all real, and lacks in the image, as an accelerator's would.
    """
    names = [one.name for one in pair]
    served = system.ended(system.start_rollout(digits_module, *names, slot="digits"), said=pair[0].said)
    assert served["state"] == "done"
    policy = {
        "waves": [{"count": 1}, {"percent": 100}],
        "gates": [{"measure": "provider", "is": OPENVINO}],
        "on_failure": "revert",
    }
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    orders = {name: system.api(f"devices/{name}")["order"]["counter"] for name in names}
    rollout = system.start_rollout(misplaced, *names, slot="digits", more=("--policy", str(file)))
    until(
        lambda: system.api(f"rollouts/{rollout}")["state"] == "reverted",
        "it is taken back",
        within_s=90,
        said=lambda: f"{json.dumps(system.api(f'rollouts/{rollout}'), indent=1)}\n{pair[0].said()}",
    )
    said = system.cli("rollouts", "show", rollout)
    (canary,) = [one["device"] for one in said["devices"] if one["wave"] == 1]
    (other,) = set(names) - {canary}

    assert f"CPUExecutionProvider is in use instead of {OPENVINO}" in json.dumps(said["devices"]), said
    for one in pair:
        assert one.score("digits", digits.QUESTIONS[0].body).headers["x-edgefleet-module"] == digits_module
    assert system.api(f"devices/{other}")["order"]["counter"] == orders[other]
