"""What an accepted order does to the rows."""

import pytest

from agent.adopt import adopt
from agent.phases import TABLE
from agent.slots import Placed
from modules.protocol.order import Order
from modules.protocol.phases import Phase
from tests.doubles.release import make
from tests.doubles.rows import slot_row

ONE, TWO = make("acme/digits:1"), make("acme/digits:2")
NOW = 500.0


def order(**slots):
    return Order(device="dev-1", counter=1, issued=1, expires=2, slots={n: r.ordered() for n, r in slots.items()})


def committed(release, **more):
    placed = Placed(wanted=release.wanted(), instance="i", socket="/s")
    return slot_row(release.wanted(), **({"phase": Phase.COMMITTED, "current": placed} | more))


def test_a_first_order_makes_a_row():
    """A slot that the device does not know begins at accepted."""
    (row,) = adopt(order(main=ONE), (), now=NOW)

    assert row == slot_row(ONE.wanted(), times=(("accepted", NOW),))


@pytest.mark.parametrize("phase", sorted(set(TABLE) - {Phase.REMOVING}))
def test_an_order_that_comes_again_changes_nothing(phase):
    """Whatever the phase, the same order is a no-op."""
    assert adopt(order(main=ONE), (committed(ONE, phase=phase),), now=NOW) == ()


def test_another_module_supersedes_the_one_on_its_way():
    """It starts over at accepted; committed and previous modules, and their restarts, stay."""
    placed = Placed(wanted=TWO.wanted(), instance="c", socket="/c")
    before = committed(ONE, wanted=TWO.wanted(), phase=Phase.PROBATION, candidate=placed, previous=placed, restarts=2)
    (row,) = adopt(order(main=make("acme/digits:3")), (before,), now=NOW)

    assert (row.phase, row.current, row.previous, row.upkeep.restarts) == (
        Phase.ACCEPTED,
        before.current,
        before.previous,
        2,
    )
    assert row.candidate is None
    assert row.target.attempts == 0


def test_other_settings_are_another_module():
    """The same digest with other settings goes the whole way."""
    changed = Order(
        device="dev-1", counter=1, issued=1, expires=2, slots={"main": ONE.ordered(settings={"log_level": "debug"})}
    )
    (row,) = adopt(changed, (committed(ONE),), now=NOW)

    assert row.phase is Phase.ACCEPTED


def test_back_to_what_is_committed_is_done_at_once():
    """Ordered back to the module that still runs, the row is committed again without a step."""
    (row,) = adopt(order(main=ONE), (committed(ONE, wanted=TWO.wanted(), phase=Phase.FETCHING),), now=NOW)

    assert row.phase is Phase.COMMITTED
    assert (row.current.wanted, row.current.routing.fallback) == (ONE.wanted(), None)


@pytest.mark.parametrize("phase", [Phase.REVERTED, Phase.REJECTED])
def test_a_waiver_tries_the_same_bytes_again(phase):
    """Only with a waiver for its digest does a failed module start over."""
    before = committed(ONE, wanted=TWO.wanted(), phase=phase)
    assert adopt(order(main=TWO), (before,), now=NOW) == ()
    (row,) = adopt(order(main=TWO), (before,), now=NOW, waived=frozenset({TWO.digest}))

    assert row.phase is Phase.ACCEPTED


def test_a_waiver_leaves_a_working_module_alone():
    """A waiver says nothing about a module that is on its way or committed."""
    assert adopt(order(main=ONE), (committed(ONE),), now=NOW, waived=frozenset({ONE.digest})) == ()


@pytest.mark.parametrize("phase", sorted(set(TABLE) - {Phase.REMOVING}))
def test_a_slot_that_is_not_named_is_removed(phase):
    """From every phase, and once only."""
    (row,) = adopt(order(), (committed(ONE, phase=phase),), now=NOW)

    assert row.phase is Phase.REMOVING
    assert adopt(order(), (row,), now=NOW) == ()


def test_a_slot_that_is_ordered_while_it_is_removed_comes_back():
    """The removal is superseded like anything else."""
    (row,) = adopt(order(main=TWO), (committed(ONE, phase=Phase.REMOVING),), now=NOW)

    assert row.phase is Phase.ACCEPTED


@pytest.mark.parametrize(("committed_before", "phase"), [(True, Phase.COMMITTED), (False, Phase.ACCEPTED)])
def test_the_same_module_that_is_ordered_while_it_is_removed_comes_back(committed_before, phase):
    """It is what the slot worked towards, or ran, before it was to go: that is no reason to let it go."""
    before = committed(ONE) if committed_before else slot_row(ONE.wanted(), phase=Phase.FETCHING)
    (removing,) = adopt(order(), (before,), now=NOW)
    (row,) = adopt(order(main=ONE), (removing,), now=NOW)

    assert (row.phase, row.wanted) == (phase, ONE.wanted())


def with_fallback(release):
    slots = {"main": release.ordered(fallback="https://cloud.example/a")}
    return Order(device="dev-1", counter=1, issued=1, expires=2, slots=slots)


def test_another_fallback_alone_starts_nothing_again():
    """Where requests go when nobody here answers is the gateway's business: the module runs and is proved as it was."""
    before = committed(ONE)
    (row,) = adopt(with_fallback(ONE), (before,), now=NOW)

    assert row.phase is Phase.COMMITTED
    assert row.target.routing.fallback == row.current.routing.fallback == "https://cloud.example/a"
    assert row.current.instance == before.current.instance


def test_a_fallback_of_another_module_is_not_the_committed_ones():
    """While a new version is on its way, the fallback that is ordered for it is its own."""
    (row,) = adopt(with_fallback(TWO), (committed(ONE, wanted=TWO.wanted(), phase=Phase.FETCHING),), now=NOW)

    assert (row.phase, row.target.routing.fallback) == (Phase.FETCHING, "https://cloud.example/a")
    assert (row.current.wanted, row.current.routing.fallback) == (ONE.wanted(), None)
