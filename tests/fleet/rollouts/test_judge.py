"""Evidence to verdict."""

import pytest

from fleet.rollouts.judge import Decision, Moment, Opened
from fleet.rollouts.judge import judge as verdict_of
from fleet.rollouts.model import EXAMPLES, Evidence, Policy, Wave
from fleet.rollouts.phases import HEALTHS, MEANINGS, NEXT, Standing, State, standing

STRICT = Policy()
LENIENT = Policy(success_percent=50.0, failure_percent=25.0)


ANY = Wave(percent=100.0)


def evidence(*phases):
    """A wave of devices in these phases, counted."""
    ours = {"planned": Standing.PLANNED, "unreached": Standing.UNREACHED}
    means = [ours.get(phase) or standing(phase) for phase in phases]
    failed = [f"dev-{i} {phases[i]}" for i, one in enumerate(means) if one is Standing.FAILED]
    return Evidence(
        devices=len(phases),
        committed=means.count(Standing.SUCCEEDED),
        failed=means.count(Standing.FAILED),
        planned=means.count(Standing.PLANNED),
        unreached=means.count(Standing.UNREACHED),
        examples=tuple(failed[:EXAMPLES]),
    )


def judge(policy, waves, *, last_wave, upcoming=ANY, **more):
    """The verdict on waves of one kind of hardware, or of several where they are given by kind."""
    asked = policy.of(ANY)
    opened = [Opened(asked, one if isinstance(one, dict) else {"cpu": one}) for one in waves]
    return verdict_of(opened, None if last_wave else policy.of(upcoming), **more)


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
        (STRICT, ["committed", "unreached"], True, Decision.DONE),
        (STRICT, ["committed", "unreached"], False, Decision.ADVANCE),
        (STRICT, ["unreached"], False, Decision.HOLD),
        (STRICT, ["unreached"], True, Decision.DONE),
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
    assert [phase for phase, means in MEANINGS.items() if means is Standing.SUCCEEDED] == ["committed"]


@pytest.mark.parametrize(
    ("health", "means"),
    [
        ("", Standing.SUCCEEDED),
        ("up", Standing.SUCCEEDED),
        ("restarting", Standing.WORKING),
        ("degraded", Standing.FAILED),
        ("of-a-newer-device", Standing.WORKING),
    ],
)
def test_a_committed_module_counts_as_its_health_says(health, means):
    """What a device committed and cannot keep up is no success; a device of before says nothing of it."""
    assert standing("committed", health) is means
    assert standing("reverted", health) is Standing.FAILED
    assert standing("fetching", health) is Standing.WORKING


def test_only_a_module_that_is_up_is_healthy():
    """No other health counts for a rollout."""
    assert [name for name, means in HEALTHS.items() if means is Standing.SUCCEEDED] == ["", "up"]


def test_a_phase_of_a_newer_device_is_neither_success_nor_failure():
    """What this server does not know it waits for."""
    assert standing("fine") is Standing.WORKING


# All of a wave's devices belong to newer rollouts.
NOBODY = Evidence()


def test_no_evidence_holds():
    """A hotfix on the only canary says nothing of the bad version: its next wave stays closed."""
    verdict = judge(STRICT, [NOBODY], last_wave=False)

    assert (verdict.decision, verdict.reason) == (
        Decision.HOLD,
        "no device is left to judge by",
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
    assert NEXT.keys() == set(State)
    assert {state for states in NEXT.values() for state in states} <= NEXT.keys()


def test_a_failure_counts_once_a_minimum_has_come_to_an_end():
    """One of ten that failed first is no share yet; where three have ended, it is."""
    policy = Policy(success_percent=50.0, failure_percent=5.0, minimum=3)
    working = ["fetching"] * 7
    assert judge(policy, [evidence("reverted", *working)], last_wave=False).decision is Decision.HOLD
    ended = evidence("reverted", "committed", "committed", *working)
    assert judge(policy, [ended], last_wave=False).decision is Decision.FAIL


def test_what_can_no_longer_succeed_fails_below_the_minimum():
    """Nobody waits for more evidence where the success is out of reach."""
    policy = Policy(failure_percent=50.0, minimum=4)
    reverted = evidence("reverted", "reverted", "reverted", "fetching")
    assert judge(policy, [reverted], last_wave=False).decision is Decision.FAIL


def test_a_success_waits_for_its_minimum():
    """Half of the wave is enough by the percent, and fewer than the minimum have come to an end."""
    policy = Policy(success_percent=10.0, failure_percent=50.0, minimum=3)
    two = ["committed", "committed"] + ["fetching"] * 8
    assert judge(policy, [evidence(*two)], last_wave=False).decision is Decision.HOLD
    assert judge(policy, [evidence(*two, "committed")], last_wave=False).decision is Decision.ADVANCE


def test_a_complete_wave_is_watched_before_the_next_opens():
    """For the soak it must stay complete; then the next wave opens, at the very second."""
    policy = Policy(soak="10m")

    def after(seconds):
        moment = Moment(now=1000.0 + seconds, complete_since=1000.0)
        return judge(policy, [evidence("committed")], last_wave=False, moment=moment)

    early = after(599)
    assert (early.decision, early.complete, early.again) == (Decision.HOLD, True, 1600.0)
    assert early.reason == "wave 1 is complete and is watched for 1 more seconds"
    assert after(600).decision is Decision.ADVANCE


def test_the_soak_begins_when_the_wave_is_complete():
    """A wave that was just completed has all of it before it, the last wave too."""
    verdict = judge(Policy(soak="10m"), [evidence("committed")], last_wave=True, moment=Moment(now=1000.0))
    assert (verdict.decision, verdict.again) == (Decision.HOLD, 1600.0)


def test_a_wave_that_asks_for_approval_waits_for_it():
    """Complete is not enough; the operator's word is."""
    asking = Wave(percent=100.0, approval=True)
    held = judge(STRICT, [evidence("committed")], last_wave=False, upcoming=asking)
    assert (held.decision, held.complete) == (Decision.HOLD, True)
    assert "waits for an operator's approval" in held.reason
    moment = Moment(approved=True)
    approved = judge(STRICT, [evidence("committed")], last_wave=False, upcoming=asking, moment=moment)
    assert approved.decision is Decision.ADVANCE


def test_a_first_wave_may_ask_for_approval_too():
    """Nothing is open yet, and nothing opens."""
    asking = Wave(percent=100.0, approval=True)
    assert judge(STRICT, [], last_wave=False, upcoming=asking).decision is Decision.HOLD
    assert (
        judge(STRICT, [], last_wave=False, upcoming=asking, moment=Moment(approved=True)).decision is Decision.ADVANCE
    )


def test_a_kind_of_hardware_that_fails_is_stopped_alone():
    """The others go on; which one, in which wave, and why stands in the verdict."""
    waves = [{"arm64 cpu": evidence("committed"), "arm64 cuda": evidence("reverted")}]
    verdict = judge(STRICT, waves, last_wave=False, kinds=2)
    assert (verdict.decision, verdict.hardware, verdict.wave) == (Decision.STOP, "arm64 cuda", 1)
    assert verdict.reason == "arm64 cuda: 1 of 1 devices failed (dev-0 reverted)"


def test_the_last_kind_of_hardware_that_is_left_fails_as_a_whole():
    """There is nothing to go on with."""
    waves = [{"arm64 cuda": evidence("reverted")}]
    assert judge(STRICT, waves, last_wave=False, kinds=1).decision is Decision.FAIL


def test_a_kind_below_the_minimum_is_judged_with_all():
    """Of one device of its kind nobody says that the kind fails, if the minimum is two; the wave as a whole may."""
    policy = Policy(success_percent=50.0, failure_percent=20.0, minimum=2)
    few = {"cuda": evidence("reverted"), "cpu": evidence(*["committed"] * 9)}
    assert judge(policy, [few], last_wave=False, kinds=2).decision is Decision.ADVANCE
    more = {"cuda": evidence("reverted", "reverted"), "cpu": evidence(*["committed"] * 9)}
    assert judge(policy, [more], last_wave=False, kinds=2).decision is Decision.STOP


def test_failures_of_all_kinds_add_up():
    """Each kind within its tolerance by itself, and all together beyond it."""
    policy = Policy(success_percent=50.0, failure_percent=30.0, minimum=4)
    kinds = {name: evidence("reverted", "committed", "committed") for name in ("cpu", "cuda", "npu")}
    assert judge(policy, [kinds], last_wave=False, kinds=3).decision is Decision.FAIL


def test_devices_that_could_not_be_reached_are_told():
    """Done says how many were left behind."""
    verdict = judge(STRICT, [evidence("committed", "unreached")], last_wave=True)
    assert verdict.reason == "1 of 2 devices committed, 1 could not be reached"


def test_a_verdict_names_the_wave_that_failed():
    """So that this one alone may be taken back; 0 where only all together failed."""
    assert judge(STRICT, [evidence("committed"), evidence("reverted")], last_wave=True).wave == 2
    policy = Policy(success_percent=50.0, failure_percent=10.0, minimum=6)
    working = evidence("committed", "committed", "reverted", *["fetching"] * 3)
    verdict = judge(policy, [working, working], last_wave=False)
    assert (verdict.decision, verdict.wave) == (Decision.FAIL, 0)


def test_a_rollout_that_holds_names_no_wave_and_is_not_complete():
    """Only a failure has a wave that it began in, and what is still waited for is not watched as if it were there."""
    verdict = judge(STRICT, [evidence("committed", "probation")], last_wave=True)
    assert (verdict.decision, verdict.wave, verdict.hardware) == (Decision.HOLD, 0, "")
    assert (verdict.complete, verdict.again) == (False, None)


def test_what_is_done_or_goes_on_was_complete():
    """The end of a rollout, the next wave, and one that waits for a word: each says that the opened waves are there."""
    committed = [evidence("committed")]
    done, advances = judge(STRICT, committed, last_wave=True), judge(STRICT, committed, last_wave=False)
    assert [(one.decision, one.complete) for one in (done, advances)] == [
        (Decision.DONE, True),
        (Decision.ADVANCE, True),
    ]


def test_without_a_moment_no_time_has_passed():
    """Who does not say when it is judges at the beginning of time: nothing has been watched yet."""
    verdict = judge(Policy(soak="10m"), [evidence("committed")], last_wave=False)
    assert (verdict.decision, verdict.again) == (Decision.HOLD, 600.0)


def test_a_rollout_smaller_than_the_minimum_can_fail():
    """Where fewer devices are there than the minimum asks for, all of them are enough to see that it is bad."""
    policy = Policy(minimum=3)
    assert judge(policy, [evidence("reverted", "reverted")], last_wave=True).decision is Decision.FAIL


def test_a_success_that_can_just_be_reached_is_waited_for():
    """Half of the devices failed, which is allowed, and the other half is just what is needed."""
    policy = Policy(success_percent=50.0, failure_percent=50.0)
    waiting = evidence("reverted", "reverted", "fetching", "fetching")
    assert judge(policy, [waiting], last_wave=True).decision is Decision.HOLD
