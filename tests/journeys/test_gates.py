"""Versions that pass every proof and behave badly only once applications use them: stopped in their first wave."""

import json
from contextlib import ExitStack

import pytest

from tests.parts.programs import until
from tests.parts.traffic import Question, Traffic

SLOT = "parity"
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
}


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
    no application gets an error, and the other device never sees it."""
    gate, change = FLAWS[flaw]
    bad = registered(**change)
    policy = {
        "waves": [{"count": 1}, {"percent": 100}],
        "gates": [{**gate, "window_s": 5}],
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
            within_s=90,
            said=lambda: f"{json.dumps(system.api(f'rollouts/{rollout}'), indent=1)}\n{pair[0].said()}",
        )
    said = system.cli("rollouts", "show", rollout)
    (canary,) = [one["device"] for one in said["devices"] if one["wave"] == 1]
    (other,) = traffic.keys() - {canary}

    assert f"{gate['measure']} is " in json.dumps(said["history"]), said["history"]
    assert system.report(canary)["slots"][0]["serving"]["module"] == first
    assert bad in {module for client in traffic[canary].modules() for module in client}
    assert [one for one in traffic[canary].answers if one.status != 200] == []
    assert traffic[other].modules() == ([first], [first])
    assert traffic[other].failed == []
