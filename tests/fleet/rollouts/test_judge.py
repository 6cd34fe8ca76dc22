"""Evidence to verdict."""

import pytest

from fleet.rollouts.judge import Decision, judge
from fleet.rollouts.model import Evidence, Policy
from fleet.rollouts.phases import HEALTHS, NEXT, OUTCOMES, Outcome, outcome

STRICT = Policy()
LENIENT = Policy(success_percent=50.0, failure_percent=25.0)


def evidence(*phases):
    """A wave of devices in these phases, counted."""
    means = [outcome(phase) for phase in phases]
    return Evidence(
        devices=len(phases),
        committed=means.count(Outcome.SUCCEEDED),
        failed=means.count(Outcome.FAILED),
        unordered=phases.count("planned"),
        examples=tuple(f"dev-{i} {phases[i]}" for i, one in enumerate(means) if one is Outcome.FAILED),
    )


@pytest.mark.parametrize(
    ("policy", "phases", "last", "decision"),
    [
        (STRICT, ["committed", "committed"], True, Decision.DONE),
        (STRICT, ["committed", "committed"], False, Decision.ADVANCE),
        (STRICT, ["committed", "probation"], True, Decision.HOLD),
        (STRICT, ["ordered"], True, Decision.HOLD),
        (STRICT, ["waiting"], True, Decision.HOLD),
        (STRICT, ["committed", "planned"], True, Decision.HOLD),
        (STRICT, ["committed", "reverted"], True, Decision.FAIL),
        (STRICT, ["committed", "rejected"], False, Decision.FAIL),
        (STRICT, ["degraded", "fetching"], True, Decision.FAIL),
        (STRICT, ["reverting"], True, Decision.FAIL),
        (STRICT, [], True, Decision.SUPERSEDED),
        (STRICT, [], False, Decision.HOLD),
        (LENIENT, ["committed", "planned"], False, Decision.HOLD),
        (LENIENT, ["committed", "planned"], True, Decision.HOLD),
        (LENIENT, ["committed", "fetching"], False, Decision.ADVANCE),
        (LENIENT, ["committed", "committed", "fetching", "reverted"], True, Decision.DONE),
        (LENIENT, ["committed", "fetching", "fetching", "reverted"], True, Decision.HOLD),
        (LENIENT, ["committed", "fetching", "reverted", "reverted"], True, Decision.FAIL),
        (Policy(success_percent=100.0, failure_percent=50.0), ["committed", "reverted"], True, Decision.FAIL),
    ],
)
def test_the_verdict_follows_from_the_phases(policy, phases, last, decision):
    """Committed counts, failures stop within their tolerance, and what can no longer succeed fails at once."""
    assert judge(policy, [evidence(*phases)], last_wave=last).decision is decision


@pytest.mark.parametrize(
    ("policy", "devices", "needed"), [(STRICT, 200, 200), (LENIENT, 200, 100), (LENIENT, 3, 2), (LENIENT, 1, 1)]
)
def test_how_many_must_have_committed(policy, devices, needed):
    """The share that the policy asks for is rounded up, and is reached exactly, however many devices there are."""

    def after(committed):
        phases = ["committed"] * committed + ["fetching"] * (devices - committed)
        return judge(policy, [evidence(*phases)], last_wave=False).decision

    assert after(needed) is Decision.ADVANCE
    assert after(needed - 1) is Decision.HOLD


def test_a_failure_names_the_devices():
    """The operator reads who failed and how, not only that it did."""
    assert "dev-1 reverted" in judge(STRICT, [evidence("committed", "reverted")], last_wave=True).reason


def test_of_many_failures_the_first_five_are_named():
    """The reason stays short, and says how many there are."""
    reason = judge(STRICT, [evidence("committed", *["reverted"] * 7)], last_wave=True).reason

    assert reason == f"7 of 8 devices failed ({', '.join(f'dev-{number} reverted' for number in range(1, 6))})"


def test_only_committed_is_success():
    """No other phase lets a wave advance: done means healthy."""
    assert [phase for phase, means in OUTCOMES.items() if means is Outcome.SUCCEEDED] == ["committed"]


@pytest.mark.parametrize(
    ("health", "means"),
    [
        ("", Outcome.SUCCEEDED),
        ("up", Outcome.SUCCEEDED),
        ("restarting", Outcome.WORKING),
        ("degraded", Outcome.FAILED),
        ("of-a-newer-device", Outcome.WORKING),
    ],
)
def test_a_committed_module_counts_as_its_health_says(health, means):
    """What a device committed and cannot keep up is no success; a device of before says nothing of it."""
    assert outcome("committed", health) is means
    assert outcome("reverted", health) is Outcome.FAILED
    assert outcome("fetching", health) is Outcome.WORKING


def test_only_a_module_that_is_up_is_healthy():
    """No other health counts for a rollout."""
    assert [name for name, means in HEALTHS.items() if means is Outcome.SUCCEEDED] == ["", "up"]


def test_a_phase_of_a_newer_device_is_neither_success_nor_failure():
    """What this server does not know it waits for."""
    assert outcome("fine") is Outcome.WORKING


# All of a wave's devices belong to newer rollouts.
NOBODY = Evidence()


def test_no_evidence_holds():
    """A hotfix on the only canary says nothing of the bad version: its next wave stays closed."""
    verdict = judge(STRICT, [NOBODY], last_wave=False)

    assert (verdict.decision, verdict.reason) == (
        Decision.HOLD,
        "no device of wave 1 is left to judge by: all belong to newer rollouts",
    )


def test_a_good_first_wave_does_not_outweigh_a_bad_second():
    """After a thousand commits, fifty of fifty reverted in the second wave are a failure."""
    policy = Policy(success_percent=90.0, failure_percent=10.0)
    verdict = judge(policy, [evidence(*["committed"] * 1000), evidence(*["reverted"] * 50)], last_wave=False)

    assert verdict.decision is Decision.FAIL
    assert verdict.reason.startswith("wave 2: 50 of 50 devices failed")


def test_failures_of_many_waves_add_up():
    """Each wave is just within its tolerance, and a device of an early one that went back counts again."""
    policy = Policy(success_percent=50.0, failure_percent=20.0)
    good = evidence(*["committed"] * 8, "reverted", "reverted")
    assert judge(policy, [good, good], last_wave=False).decision is Decision.ADVANCE
    worse = evidence(*["committed"] * 7, "reverted", "reverted", "reverted")
    assert judge(policy, [worse, good], last_wave=False).decision is Decision.FAIL


def test_an_early_wave_that_is_not_complete_any_more_holds_the_next():
    """A device of the first wave that starts over is waited for, though the second wave has committed."""
    waves = [evidence("committed", "probation"), evidence("committed")]
    assert judge(STRICT, waves, last_wave=False).decision is Decision.HOLD


def test_zero_success_needed_is_still_one():
    """A policy of 0 % does not make done of a rollout in which nobody committed."""
    assert judge(Policy(success_percent=0.0), [evidence("ordered")], last_wave=True).decision is Decision.HOLD


def test_a_last_wave_that_newer_rollouts_took_does_not_hold_the_rest():
    """What is left has committed; the rollout is done."""
    assert judge(STRICT, [evidence("committed"), NOBODY], last_wave=True).decision is Decision.DONE


def test_every_state_that_can_be_reached_is_in_the_table():
    """The table is closed: no state leads to one that it does not describe."""
    assert {state for states in NEXT.values() for state in states} <= NEXT.keys()
