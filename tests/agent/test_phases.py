"""The table of phases is whole and strict."""

import itertools

import pytest

from agent.phases import TABLE, check
from agent.slots import reason
from modules.errors import NotReady
from modules.protocol.phases import Phase
from tests.doubles.release import make
from tests.doubles.rows import slot_row

PAIRS = list(itertools.product(TABLE, TABLE))


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=str)
def test_only_the_table_leads_on(before, after):
    """A move that the table has is taken by whom it is for; each other one is a bug and raises."""
    owner = TABLE[after].owner
    other = {"device": "order", "order": "device"}[owner]
    if after in TABLE[before].next:
        check(before, after, owner)
        with pytest.raises(RuntimeError, match=f"the {other} does not move a slot to {after}"):
            check(before, after, other)
    else:
        with pytest.raises(RuntimeError, match=f"{before} to {after}"):
            check(before, after, owner)


def test_every_phase_has_a_row_and_can_be_reached():
    """From accepted every phase can be reached, and every phase can be removed."""
    reached, new = set(), {Phase.ACCEPTED}
    while new:
        reached |= new
        new = {after for before in new for after in TABLE[before].next} - reached

    assert reached == set(TABLE) == set(Phase) - {Phase.DEGRADED}  # a word of reports
    assert all(Phase.REMOVING in row.next for phase, row in TABLE.items() if phase is not Phase.REMOVING)


def test_resume_points_are_moves_that_the_table_has():
    """A restarted agent resumes a phase in place, or at one that the table leads to; nothing resumes at an end."""
    for phase, row in TABLE.items():
        assert row.resume is phase or row.resume in row.next
        assert TABLE[row.resume].resume is row.resume
        assert row.ends is (phase in {Phase.COMMITTED, Phase.REVERTED, Phase.REJECTED})


def test_a_row_keeps_only_so_many_times():
    """A candidate whose engine is busy for ever does not make its report grow for ever."""
    slot = slot_row(make().wanted(), phase=Phase.STAGED)
    for now in range(100):
        slot = slot.to(Phase.STARTING, now).to(Phase.STAGED, now)

    assert len(slot.target.times) == 32
    assert slot.target.times[-1] == ("staged", 99)


def test_a_reason_is_told_by_code_or_as_a_bug():
    """An error of the tree keeps its code; any other is a bug, named with its type."""
    assert reason(NotReady("too late", element="x")).code == "not-ready"
    assert reason(KeyError("y")).code == "bug"
