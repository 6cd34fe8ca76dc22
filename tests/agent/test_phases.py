"""The table of phases is whole and strict."""

import itertools

import pytest

from agent.phases import TABLE, check
from agent.slots import Slot, reason
from modules.errors import NotReady
from modules.protocol.phases import Phase
from tests.doubles.release import make

PAIRS = list(itertools.product(Phase, Phase))


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=str)
def test_only_the_table_leads_on(before, after):
    """A move that the table has is taken; each other one is a bug and raises."""
    if after in TABLE[before].next:
        check(before, after)
    else:
        with pytest.raises(RuntimeError, match=f"{before} to {after}"):
            check(before, after)


def test_every_phase_has_a_row_and_can_be_reached():
    """From accepted every phase can be reached, and every phase can be removed."""
    reached, new = set(), {Phase.ACCEPTED}
    while new:
        reached |= new
        new = {after for before in new for after in TABLE[before].next} - reached

    assert reached == set(Phase) == set(TABLE)
    assert all(Phase.REMOVING in row.next for phase, row in TABLE.items() if phase is not Phase.REMOVING)


def test_resume_points_are_moves_that_the_table_has():
    """A restarted agent resumes a phase in place, or at one that the table leads to; nothing resumes at an end."""
    for phase, row in TABLE.items():
        assert row.resume is phase or row.resume in row.next
        assert TABLE[row.resume].resume is row.resume
        assert row.ends is (phase in {Phase.COMMITTED, Phase.REVERTED, Phase.REJECTED})


def test_a_row_keeps_only_so_many_times():
    """A module that fails and recovers for ever does not make its report grow for ever."""
    slot = Slot(slot="main", wanted=make().wanted(), phase=Phase.COMMITTED)
    for now in range(100):
        slot = slot.to(Phase.DEGRADED, now).to(Phase.COMMITTED, now)

    assert len(slot.times) == 32
    assert slot.times[-1] == ("committed", 99)


def test_a_reason_is_told_by_code_or_as_a_bug():
    """An error of the tree keeps its code; any other is a bug, named with its type."""
    assert reason(NotReady("too late", element="x")).code == "not-ready"
    assert reason(KeyError("y")).code == "bug"
