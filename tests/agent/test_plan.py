"""States in, steps out: which steps the plan takes and which it does not."""

import msgspec
import pytest

from agent.engines.contract import Instance
from agent.plan import Seen, left_over, plan
from agent.slots import Placed
from agent.steps import Commit, Fetch, FinishRevert, Fit, Recover, Remove, Restart, Revert, Stage, Start, StartAgain
from agent.verdict import Evidence, broken
from modules.protocol.phases import Phase
from modules.protocol.report import Reason
from tests.doubles.release import make
from tests.doubles.rows import slot_row

NOW = 1000.0
WANTED, OLD = make("acme/digits:2").wanted(), make("acme/digits:1").wanted()
CANDIDATE = Placed(wanted=WANTED, instance="new", socket="/new", probation_s=60.0)
CURRENT = Placed(wanted=OLD, instance="old", socket="/old")


def seen(**instances):
    """Evidence by instance name: "up", "slow", "silent", "unknown" (no probe ended yet), "ended", "oom", "created" or
    "gone".
    """
    return Seen(evidence={name: evidence(name, how) for name, how in instances.items()})


def evidence(name, how):
    if how == "gone":
        return Evidence(instance=None)
    state = "exited" if how in {"ended", "oom"} else "created" if how == "created" else "running"
    one = Instance(instance=name, slot="main", digest=WANTED.digest, state=state, exit_code=1, oom=how == "oom")
    failed = {"silent": 3, "slow": 2}.get(how, 0)
    return Evidence(instance=one, failed_probes=failed, answers=how == "up")


def row(phase, **more):
    known = {"phase": phase, "times": ((str(phase), 1.8e9),), "since": NOW - 10}
    return slot_row(WANTED, **(known | more))


def steps(slot, what=None):
    return [type(step) for step in plan((slot,), what or Seen(evidence={}), now=NOW, poll_s=5.0).steps]


@pytest.mark.parametrize(
    ("phase", "step"),
    [
        (Phase.ACCEPTED, [Fit]),
        (Phase.FITTED, [Fetch]),
        (Phase.FETCHING, [Fetch]),
        (Phase.VERIFIED, [Stage]),
        (Phase.STAGED, [Start]),
        (Phase.STARTING, [Start]),
        (Phase.REVERTING, [FinishRevert]),
        (Phase.REMOVING, [Remove]),
        (Phase.COMMITTED, []),
        (Phase.DEGRADED, []),
        (Phase.REVERTED, []),
        (Phase.REJECTED, []),
    ],
)
def test_each_phase_has_its_step(phase, step):
    """A phase that is no end has exactly one step that brings it on, and an end has none."""
    assert steps(row(phase)) == step


@pytest.mark.parametrize("phase", [Phase.FETCHING, Phase.STARTING, Phase.REVERTING, Phase.REMOVING])
def test_a_waiting_time_holds_the_step_back(phase):
    """Nothing is tried before its time, and the loop looks again exactly then."""
    decision = plan((row(phase, not_before=NOW + 3),), Seen(evidence={}), now=NOW, poll_s=5.0)

    assert decision.steps == ()
    assert decision.look_again == NOW + 3


def test_what_is_left_out_of_a_look():
    """Of instances that were changed meanwhile nothing is said, of the others what was seen."""
    assert seen(old="gone", new="up", other="slow").without({"old", "other", "none"}) == seen(new="up")


@pytest.mark.parametrize("phase", [Phase.STAGED, Phase.STARTING])
def test_a_start_is_not_tried_for_ever(phase):
    """A candidate that was started three times is given up."""
    assert steps(row(phase, attempts=2)) == [Start]
    assert steps(row(phase, attempts=3)) == [Revert]


@pytest.mark.parametrize(
    ("how", "step"),
    [("up", []), ("slow", []), ("silent", [Revert]), ("ended", [Revert]), ("oom", [Revert]), ("gone", [StartAgain])],
)
def test_probation_is_judged_by_evidence(how, step):
    """Before its end a probation goes on, unless the instance is broken: then it is reverted, or started again."""
    assert steps(row(Phase.PROBATION, candidate=CANDIDATE), seen(new=how)) == step


def test_probation_ends_by_time_with_a_commit():
    """A healthy candidate is committed when its time is over, and the loop is woken then."""
    slot = row(Phase.PROBATION, candidate=CANDIDATE, since=NOW - 59)
    assert plan((slot,), seen(new="up"), now=NOW, poll_s=5.0).look_again == NOW + 1
    assert steps(row(Phase.PROBATION, candidate=CANDIDATE, since=NOW - 60), seen(new="up")) == [Commit]


def test_without_evidence_nothing_is_decided():
    """An engine that did not answer decides neither a commit nor a revert nor a restart."""
    over = row(Phase.PROBATION, candidate=CANDIDATE, current=CURRENT, since=0.0)

    assert steps(over) == []
    assert steps(row(Phase.COMMITTED, current=CURRENT)) == []


def test_a_probation_without_a_candidate_is_a_bug_that_ends():
    """A row that cannot be is reverted instead of standing for ever."""
    assert steps(row(Phase.PROBATION)) == [Revert]


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.REMOVING, Phase.REVERTING, Phase.PROBATION}))
def test_the_committed_module_is_kept_up_in_every_phase(phase):
    """Whatever the wanted module does, a broken committed one is restarted beside it: one step for each lane."""
    decision = plan((row(phase, current=CURRENT),), seen(old="ended"), now=NOW, poll_s=5.0)
    kept = [step for step in decision.steps if step.lane == "keep"]

    assert [type(step) for step in kept] == [Restart]
    assert len({step.lane for step in decision.steps}) == len(decision.steps)


@pytest.mark.parametrize(
    ("slot", "step"),
    [
        (row(Phase.REMOVING, current=CURRENT), [Remove]),
        (row(Phase.REVERTING, current=CURRENT), [FinishRevert]),
        (row(Phase.REVERTING, current=CURRENT, candidate=CANDIDATE), [FinishRevert, Restart]),
        (row(Phase.COMMITTED, current=CURRENT, restart_after=NOW + 1), []),
    ],
)
def test_when_a_broken_committed_module_is_not_restarted(slot, step):
    """One that is being removed or replaced is left alone, and a restart waits for its time."""
    assert steps(slot, seen(old="ended")) == step


def test_a_module_that_keeps_failing_goes_back_or_on():
    """After five restarts it is reverted if there is a previous one, and restarted for ever if there is not."""
    tried = row(Phase.COMMITTED, current=CURRENT, restarts=4, previous=CANDIDATE)
    worn = row(Phase.COMMITTED, current=CURRENT, restarts=5)

    assert steps(tried, seen(old="gone")) == [Restart]
    assert steps(worn, seen(old="gone")) == [Restart]
    assert steps(worn.with_(previous=CANDIDATE), seen(old="gone")) == [Revert]
    assert steps(worn.with_(phase=Phase.REVERTED, previous=CANDIDATE), seen(old="gone")) == [Restart]


@pytest.mark.parametrize(("how", "ended"), [("oom", True), ("ended", True), ("gone", True), ("silent", False)])
def test_restarts_that_clients_caused_revert_nothing(how, ended):
    """Only restarts that no client's request explains count towards a revert; and only of an end a request can be
    the cause, not of silence."""
    killed = row(Phase.COMMITTED, current=CURRENT, restarts=50, excused=46, previous=CANDIDATE)
    (step,) = plan((killed,), seen(old=how), now=NOW, poll_s=5.0).steps

    assert (type(step), step.ended) == (Restart, ended)
    assert steps(killed.with_(restarts=51), seen(old=how)) == [Revert]


def test_a_steady_module_recovers():
    """Restarts are forgotten when the module has answered for a while, and only then."""
    old = msgspec.structs.replace(CURRENT, since=NOW - 10)
    young = msgspec.structs.replace(CURRENT, since=NOW - 5)
    assert steps(row(Phase.COMMITTED, current=young, restarts=2), seen(old="up")) == []
    slot = row(Phase.COMMITTED, current=old, restarts=2)
    assert steps(slot, seen(old="up")) == [Recover]
    assert steps(slot, seen(old="slow")) == []
    assert steps(slot, seen(old="unknown")) == []
    silent = row(Phase.COMMITTED, current=old, trouble=Reason("not-ready", "it ended"))
    assert steps(silent, seen(old="up")) == [Recover], "it answers again, whoever brought it up"
    assert steps(row(Phase.COMMITTED, current=old), seen(old="up")) == []


def test_nothing_is_committed_before_its_newest_probe_has_answered():
    """A probation that is over waits for a module of which it is not known yet whether it answers."""
    over = row(Phase.PROBATION, candidate=CANDIDATE, since=NOW - 60)
    assert steps(over, seen(new="unknown")) == []
    assert steps(over, seen(new="up")) == [Commit]


def test_what_was_held_back_goes_on_at_its_time():
    """At the very moment that the plan asked to be woken at, not a moment later: it would be woken for nothing."""
    held = row(Phase.FETCHING, not_before=NOW + 1)
    assert steps(held) == []
    woken = plan((held,), Seen(evidence={}), now=NOW, poll_s=5.0).look_again
    assert [type(step) for step in plan((held,), Seen(evidence={}), now=woken, poll_s=5.0).steps] == [Fetch]


def test_slots_are_decided_on_alone():
    """Each slot has its own steps, and the earliest waking time of all counts."""
    slots = (row(Phase.ACCEPTED), row(Phase.FETCHING, slot="side", not_before=NOW + 2, restart_after=NOW + 1))
    decision = plan(slots, Seen(evidence={}), now=NOW, poll_s=5.0)

    assert [(step.slot.slot, type(step)) for step in decision.steps] == [("main", Fit)]
    assert decision.look_again == NOW + 1


def test_left_overs_are_those_that_no_row_names():
    """Candidate and committed instances are named; a previous one has been stopped and is none."""
    slots = (row(Phase.PROBATION, candidate=CANDIDATE, current=CURRENT),)

    assert left_over(slots, ["old", "x", "new", "a"]) == ["a", "x"]


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("gone", "not-ready", "gone"),
        ("oom", "over-limit", "memory"),
        ("ended", "not-ready", "exit code 1"),
        ("created", "not-ready", "ended"),
        ("silent", "not-ready", "3 health probes"),
    ],
)
def test_a_verdict_says_what_was_seen(how, code, words):
    """The reason names what the evidence showed."""
    why = broken(evidence("new", how))

    assert why.code == code
    assert words in why.message


def test_a_restart_is_taken_at_its_time_and_the_loop_is_not_woken_for_it_again():
    """At the very moment that was asked for: then it is due, and nothing more is waited for in that moment."""
    slot = row(Phase.COMMITTED, current=CURRENT, restart_after=NOW)
    decision = plan((slot,), seen(old="ended"), now=NOW, poll_s=5.0)

    assert [type(step) for step in decision.steps] == [Restart]
    assert decision.look_again == NOW + 5.0


def test_a_restart_says_what_is_known_best():
    """Of one that was stopped because it did not become ready, that; of one that lies there ended, how it ended."""
    trouble = Reason("not-ready", "it did not become ready")
    slot = row(Phase.COMMITTED, current=CURRENT, trouble=trouble)
    (gone,) = plan((slot,), seen(old="gone"), now=NOW, poll_s=5.0).steps
    (ended,) = plan((slot,), seen(old="oom"), now=NOW, poll_s=5.0).steps

    assert gone.reason == trouble
    assert ended.reason.code == "over-limit"
