"""What a rollout's page offers and says, held against what the server allows."""

import pytest

from fleet.console import rollout_parts
from fleet.people.roles import ROLES
from fleet.rollouts.phases import NEXT, Standing, State

ENDED = (State.DONE, State.PARTIAL, State.FAILED)


class Visit:
    def __init__(self, *roles):
        self.permissions = frozenset().union(*(ROLES[one] for one in roles))

    def may(self, permission):
        return permission in self.permissions


def rollout(state, *, wave=1, approval=True, approved=0, failed=1, **more):
    plan = [{"threshold": {"approval": approval}}] * 2
    given = {"state": state, "wave": wave, "waves": 2, "approved": approved, "plan": plan, "counts": {"failed": failed}}
    return given | {"forgotten": None, "history": []} | more


def offered(found, *roles):
    return {one.name for one in rollout_parts.possible(Visit(*roles or ("admin",)), found)}


@pytest.mark.parametrize("state", State)
def test_what_is_offered_is_what_the_server_allows_in_that_state(state):
    """Neither a button that would be refused, nor one that is missing."""
    leads = {"pause": State.PAUSED, "cancel": State.CANCELLED, "revert": State.REVERTING}
    expected = {name for name, there in leads.items() if there in NEXT[state]}
    expected |= {"resume"} if state == State.PAUSED else set()
    expected |= {"retry"} if state in {State.RUNNING, State.PAUSED, *ENDED} else set()
    expected |= {"approve"} if state in {State.RUNNING, State.PAUSED, State.SCHEDULED} else set()
    assert offered(rollout(state)) == expected


def test_an_approval_is_asked_for_where_a_wave_waits_for_one():
    """Not of a wave that needs none, has one, or is the last."""
    assert "approve" in offered(rollout("running"))
    for more in ({"approval": False}, {"approved": 2}, {"wave": 2}):
        assert "approve" not in offered(rollout("running", **more))


def test_nothing_is_offered_to_who_may_not_or_of_what_is_not_kept():
    """An approver approves alone, a rollout manager does all else."""
    assert offered(rollout("running"), "viewer") == set()
    assert offered(rollout("running"), "approver") == {"approve"}
    assert offered(rollout("running"), "rollout-manager") == {"retry", "pause", "cancel", "revert"}
    assert offered(rollout("done", forgotten=5.0)) == set()
    assert "retry" not in offered(rollout("failed", failed=0))


def test_why_it_went_wrong_is_told_before_what_happened_last():
    """Also once it has gone back."""
    history = [{"what": what} for what in ("started: 2 devices", "reverting: too slow", "reverted: 1 device")]
    assert rollout_parts.ending(rollout("reverted", history=history)) == {
        "cause": "reverting: too slow",
        "last": "reverted: 1 device",
    }
    assert rollout_parts.ending(rollout("running", history=history[:1])) == {"cause": "", "last": ""}


@pytest.mark.parametrize(
    ("limit", "allowed", "gate"),
    [("at_most_times", 1.5, "p95_ms ≤ 1.5 times before"), ("at_most", 30, "p95_ms ≤ 30 ms")],
)
def test_what_a_gate_saw_has_its_unit(limit, allowed, gate):
    """A tired person does not know what 61.4 is; and how much it rests on is a number of measurements."""
    worst = {"value": 61.44, "before": 19.8, "rests_on": 1200, "device": "press-01"}
    asked = {"wave": 1, "measure": "p95_ms", "limit": limit, "allowed": allowed, "minimum": 20, "worst": worst}
    (row,) = rollout_parts.gate_rows([asked | {"failed": 1, "met": 0, "waits": 0}])
    shown = (row["gate"], row["value"], row["rests"])
    assert shown == (gate, "61.44 ms (19.8 ms before)", "1\u2009200 times, 20 needed")


def test_every_standing_has_its_place_in_a_bar():
    """None is left out of the whole."""
    assert set(rollout_parts.STANDINGS) == {*Standing, "superseded"}
    assert [one[0] for one in rollout_parts.share({"planned": 1, "failed": 2})] == ["failed", "planned"]


@pytest.mark.parametrize("state", State)
def test_the_waves_of_a_list_add_up(state):
    """Whatever the state and however many are open."""
    for wave in (0, 1, 2):
        found = rollout(state, wave=2 if state in ENDED[:2] else wave)
        assert sum(count for _, count, _ in rollout_parts.passed(found)) == 2
