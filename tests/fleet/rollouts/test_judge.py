"""Evidence to verdict."""

import pytest

from fleet.rollouts.judge import Decision, judge
from fleet.rollouts.model import Evidence, Policy
from fleet.rollouts.phases import NEXT, OUTCOMES, Outcome, outcome
from modules.errors import Invalid
from modules.names import DeviceId

STRICT = Policy()
LENIENT = Policy(success_percent=50.0, failure_percent=25.0)


def evidence(*phases):
    return [Evidence(DeviceId(f"dev-{i}"), outcome(phase), phase, phase != "planned") for i, phase in enumerate(phases)]


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
        (STRICT, [], True, Decision.DONE),
        (LENIENT, ["committed", "committed", "fetching", "reverted"], True, Decision.DONE),
        (LENIENT, ["committed", "fetching", "fetching", "reverted"], True, Decision.HOLD),
        (LENIENT, ["committed", "fetching", "reverted", "reverted"], True, Decision.FAIL),
        (Policy(success_percent=100.0, failure_percent=50.0), ["committed", "reverted"], True, Decision.FAIL),
    ],
)
def test_the_verdict_follows_from_the_phases(policy, phases, last, decision):
    """Committed counts, failures stop within their tolerance, and what can no longer succeed fails at once."""
    assert judge(policy, evidence(*phases), last_wave=last).decision is decision


def test_a_failure_names_the_devices():
    """The operator reads who failed and how, not only that it did."""
    assert "dev-1 reverted" in judge(STRICT, evidence("committed", "reverted"), last_wave=True).reason


def test_only_committed_is_success():
    """No other phase lets a wave advance: done means healthy."""
    assert [phase for phase, means in OUTCOMES.items() if means is Outcome.SUCCEEDED] == ["committed"]


def test_a_phase_that_does_not_exist_is_refused():
    """A report with an invented phase is no evidence."""
    with pytest.raises(Invalid, match="phase"):
        outcome("fine")


def test_every_state_that_can_be_reached_is_in_the_table():
    """The table is closed: no state leads to one that it does not describe."""
    assert {state for states in NEXT.values() for state in states} <= NEXT.keys()
