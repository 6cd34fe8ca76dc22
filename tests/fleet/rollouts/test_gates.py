"""Gates on how a module behaves: what a device measured, and what it means for its rollout."""

import pytest

from fleet.rollouts import policy as policies
from fleet.rollouts.gates import look
from fleet.rollouts.model import Policy, Wave
from modules.errors import Invalid
from modules.names import Digest, Slug
from modules.protocol.measured import Measured
from modules.protocol.report import Health, Running, SlotReport
from modules.sketch import BINS, bin_of, distance
from tests.doubles.fleet_rows import slot_report

DIGEST = Digest("sha256:" + "0" * 64)


def said(measured=None, before=None, *, provider="CPUExecutionProvider", restarts=0):
    return SlotReport(
        slot=Slug("digits"),
        phase="committed",
        module="acme/digits:2",
        digest=DIGEST,
        serving=Running(module="acme/digits:2", digest=DIGEST, provider=provider),
        current=Health(state="up", restarts=restarts),
        measured=measured,
        before=before,
    )


def sketch(*values):
    counts = [0] * BINS
    for value in values:
        counts[bin_of(value)] += 1
    return tuple(counts)


def outcome(gate, *arguments, **named):
    return look(policies.read({"gates": [gate]}).gates, said(*arguments, **named))


GOOD = {"seconds": 60.0, "requests": 100, "answers": 100, "samples": 4}


@pytest.mark.parametrize(
    ("gate", "good", "bad", "says"),
    [
        ({"at_most": 50}, {"p95_ms": 50.0}, {"p95_ms": 50.1}, "p95_ms is 50.1, at most 50 is allowed"),
        ({"at_most": 5}, {"p50_ms": 5.0}, {"p50_ms": 6.0}, "p50_ms is 6, at most 5"),
        ({"at_most": 1}, {"errors": 1}, {"errors": 2}, "error_percent is 2, at most 1"),
        ({"at_most": 0}, {"nan": 0}, {"nan": 1}, "nan_percent is 1, at most 0"),
        ({"at_most": 10}, {"empty": 10}, {"empty": 11}, "empty_percent is 11, at most 10"),
        ({"at_least": 100}, {"agree": 4}, {"agree": 3}, "sample_percent is 75, at least 100"),
        ({"at_most": 200}, {"memory_mb": 200}, {"memory_mb": 201}, "memory_mb is 201, at most 200"),
        ({"at_most": 5}, {"memory_growth_mb_h": 5.0}, {"memory_growth_mb_h": 5.1}, "memory_growth_mb_h is 5.1"),
        ({"at_most": 85}, {"temperature_c": 85.0}, {"temperature_c": 86.0}, "temperature_c is 86"),
    ],
)
def test_a_limit_is_met_at_the_limit_and_not_beyond(gate, good, bad, says):
    """Each measure by itself, and the reason has both numbers."""
    named = {"measure": says.split()[0]} | gate
    assert outcome(named, Measured(**GOOD, **good)).failed == ""
    assert says in outcome(named, Measured(**GOOD, **bad)).failed


def test_a_latency_is_compared_with_the_module_that_was_replaced():
    """On the same device: 50 ms after 20 ms is too slow where half more is allowed, and 30 ms is not."""
    gate = {"measure": "p95_ms", "at_most_times": 1.5}
    before = Measured(**GOOD, p95_ms=20.0)
    assert outcome(gate, Measured(**GOOD, p95_ms=30.0), before).failed == ""
    assert outcome(gate, Measured(**GOOD, p95_ms=50.0), before).failed == (
        "p95_ms is 50, 2.50 times the 20 before, 1.5 times are allowed"
    )
    assert "of the module that it replaced is not known" in outcome(gate, Measured(**GOOD, p95_ms=50.0)).waits


def test_a_provider_is_the_one_that_is_asked_for():
    """CPU instead of the accelerator is a failure, whatever the answers are."""
    gate = {"measure": "provider", "is": "CUDAExecutionProvider"}
    assert outcome(gate, provider="CUDAExecutionProvider").failed == ""
    assert outcome(gate).failed == "it runs on CPUExecutionProvider, not on CUDAExecutionProvider"
    assert outcome(gate, provider="").waits == "the provider in use is not known yet"


def test_restarts_are_counted():
    """A module that comes back by itself again and again is not well."""
    gate = {"measure": "restarts", "at_most": 1}
    assert outcome(gate, restarts=1).failed == ""
    assert outcome(gate, restarts=2).failed == "2 restarts, 1 are allowed"


def test_answers_that_moved_away_are_seen():
    """The same shares are no drift, other values are, and other shares of the same values too."""
    gate = {"measure": "drift", "at_most": 0.25, "minimum": 10}
    before = Measured(**GOOD, values=sketch(*[0.1] * 50, *[0.9] * 50))
    assert outcome(gate, Measured(**GOOD, values=sketch(*[0.1] * 49, *[0.9] * 51)), before).failed == ""
    for other in (sketch(*[7.0] * 100), sketch(*[0.1] * 95, *[0.9] * 5), sketch(*[-0.1] * 50, *[-0.9] * 50)):
        assert "drift is" in outcome(gate, Measured(**GOOD, values=other), before).failed


def test_what_is_not_known_yet_is_waited_for_or_passed():
    """Too few requests, too short a window, nothing at all: no evidence is no success, unless the gate says so."""
    few = Measured(seconds=60.0, requests=9, p95_ms=999.0)
    gate = {"measure": "p95_ms", "at_most": 50, "minimum": 10, "window_s": 30}
    assert outcome(gate, few).waits == "p95_ms rests on 9 yet, 10 are needed"
    assert outcome(gate, Measured(seconds=29.0, requests=99, p95_ms=1.0)).waits == "p95_ms: 29 of 30 s measured yet"
    assert outcome(gate).waits == "p95_ms: nothing measured yet"
    for nothing in (few, None):
        assert outcome(gate | {"missing": "pass"}, nothing) == outcome({"measure": "restarts", "at_most": 0})


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"measure": "p95_ms"}, "gate 1: a gate on p95_ms takes exactly one of at_most, at_most_times"),
        ({"measure": "p95_ms", "at_most": 1, "at_most_times": 2}, "exactly one"),
        ({"measure": "p95_ms", "at_least": 1}, "exactly one"),
        ({"measure": "provider", "at_most": 1}, "takes exactly one of is"),
        ({"measure": "sample_percent", "at_least": 101}, "can never be met"),
        ({"measure": "sample_percent", "at_least": 0}, "at_least of 0 is always met"),
        ({"measure": "error_percent", "at_most": 101}, "error_percent, at_most of 101 is always met"),
        ({"measure": "nan_percent", "at_most": 100}, "is always met"),
        ({"measure": "temperature_c", "at_most": 300}, "is always met"),
        ({"measure": "error_percent", "at_most": -1}, "at_most of -1 is no limit"),
        ({"measure": "p50_ms", "at_most": 0}, "can never be met"),
        ({"measure": "memory_mb", "at_most": 0}, "can never be met"),
        ({"measure": "p95_ms", "at_most": float("inf")}, "no limit|at_most"),
        ({"measure": "p95_ms", "at_most_times": 0}, "can never be met"),
        ({"measure": "p95_ms", "at_most": float("nan")}, "no limit|at_most"),
        ({"measure": "humidity", "at_most": 1}, "humidity"),
        ({"measure": "p95_ms", "at_most": 1, "minimum": 0}, "minimum is 0.*from 1 to 1000000"),
        ({"measure": "sample_percent", "at_least": 9, "minimum": 17}, "minimum is 17.*from 1 to 16"),
        ({"measure": "p95_ms", "at_most": 1, "window_s": 86401}, "window_s of at most 86400, a day"),
        ({"measure": "p95_ms", "at_most": 1, "surprise": 1}, "surprise"),
    ],
)
def test_a_gate_that_can_never_be_met_is_refused(gate, says):
    """With its number, and what it would take."""
    with pytest.raises(Invalid, match=says):
        policies.read({"gates": [gate]})


def test_every_finite_number_has_a_bin_and_signs_do_not_mix():
    """From the smallest to the largest, in order."""
    values = [-1e300, -40.0, -1.0, -1e-9, 0.0, 1e-9, 0.3, 0.6, 1.0, 40.0, 1e300]
    bins = [bin_of(value) for value in values]
    assert bins == sorted(set(bins))
    assert (bins[0], bins[5 - 1], bins[-1]) == (0, BINS // 2, BINS - 1)
    assert distance(sketch(1.0), sketch(1.0)) == 0.0
    assert distance((), sketch(1.0)) == 0.0


@pytest.mark.parametrize(("restarts", "standing"), [(1, "working"), (2, "failed")])
def test_a_module_that_is_started_again_too_often_fails_while_it_is(small_fleet, restarts, standing):
    """A device counts restarts until the module is steady again: who waits for that sees none."""
    small_fleet.add_device("dev-a")
    policy = policies.read({"gates": [{"measure": "restarts", "at_most": 1}], "soak": "1h"})
    rollout = small_fleet.start(small_fleet.add_module("digits"), policy=policy)
    small_fleet.report("dev-a", "committed")
    small_fleet.report("dev-a", "committed", current=Health(state="restarting", restarts=restarts))
    assert small_fleet.view(rollout)["counts"] == {standing: 1}


def test_a_wave_waits_for_its_gates_and_fails_by_them(small_fleet):
    """Committed is not enough: the canary is measured first; what is too slow fails and is taken back."""
    fleet = small_fleet
    for name in ("dev-a", "dev-b"):
        fleet.add_device(name)
    gates = policies.read({"gates": [{"measure": "p95_ms", "at_most": 50, "minimum": 10}]}).gates
    policy = Policy(waves=(Wave(count=1), Wave(percent=100.0)), gates=gates, on_failure="revert")
    rollout = fleet.start(fleet.add_module("digits"), policy=policy)

    def measured(p95_ms, requests):
        slot = slot_report(fleet, "dev-a", "committed", measured=Measured(seconds=5, requests=requests, p95_ms=p95_ms))
        fleet.send("dev-a", [slot], order=fleet.order("dev-a").counter)
        [first, _] = fleet.view(rollout)["devices"]
        return first["standing"], first["why"]

    standing, why = measured(5.0, 9)
    assert (standing, fleet.order("dev-b")) == ("working", None)
    assert "p95_ms rests on 9 yet, 10 are needed" in why
    assert measured(5.0, 10) == ("succeeded", "")
    assert fleet.order("dev-b") is not None
    assert measured(51.0, 10)[0] == "returning"
    assert fleet.view(rollout)["state"] == "reverting"
    assert "p95_ms is 51, at most 50 is allowed" in fleet.view(rollout)["history"][-1]["what"]
