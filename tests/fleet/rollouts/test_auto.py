"""Newly signed versions start rollouts by rule."""

import pytest

from fleet import events
from fleet.refusals import Conflict, Missing
from fleet.rollouts import auto, view
from fleet.rollouts.model import Policy, Wave
from fleet.rollouts.start import Starter, Wish
from modules.manifest import Needs
from modules.names import ModuleRef, Slug

CANARY = Policy(waves=(Wave(count=1), Wave(percent=100.0)))


@pytest.fixture
def fleet(small_fleet):
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name)
    return small_fleet


def add(fleet, name="night", **more):
    wish = {"slot": Slug("digits"), "engine": "process", "policy": CANARY, "supersede": True}
    tags = more.pop("tags", {"stage": "field"})
    rule = auto.Rule(name=name, wish=Wish(module=ModuleRef.parse("acme/digits:0"), **wish | more), tags=tags)
    with fleet.database.write() as connection:
        auto.add(connection, fleet.now, rule, Starter("ann"))


def sign(fleet, name="digits", **parts):
    """A version as the server takes it: signed, and the rules are to look at it."""
    ref = fleet.add_module(name, **parts)
    with fleet.database.write() as connection:
        auto.signed(connection, ref)
    fleet.tick()
    return ref


def rollouts(fleet):
    with fleet.database.read() as connection:
        return [one["module"] for one in view.some(connection, limit=50)]


def last(fleet):
    with fleet.database.read() as connection:
        return [(one["name"], one["last"], one["rollout"]) for one in auto.every(connection)]


def told(fleet):
    with fleet.database.read() as connection:
        return [one["message"] for one in events.newest(connection) if one["kind"] == "auto-rollout-refused"]


def test_a_version_with_the_tags_starts_by_the_rules_policy(fleet):
    """Its first wave has its order; the history says by which rule; one without the tags starts nothing."""
    add(fleet)
    sign(fleet, tags={"stage": "lab"})
    sign(fleet)
    sign(fleet, "faces", tags={"stage": "field"})
    assert rollouts(fleet) == []

    ref = sign(fleet, tags={"stage": "field", "more": "x"})
    assert rollouts(fleet) == [str(ref)]
    assert (fleet.order("dev-a") is not None, fleet.order("dev-b")) == (True, None)
    assert last(fleet) == [("night", "3", "1")]
    assert fleet.view(1)["history"][0]["by"] == "rule night of ann"


def test_a_newer_version_takes_the_slot_from_the_one_before(fleet):
    """Though that is still under way."""
    add(fleet)
    first, second = (sign(fleet, tags={"stage": "field"}) for _ in range(2))
    assert rollouts(fleet) == [str(second), str(first)]
    assert fleet.order("dev-a").slots["digits"].manifest == second.target


def test_no_rule_goes_back(fleet):
    """A version that is signed late, below the one that runs, starts nothing; neither does one a second time."""
    add(fleet)
    newer = sign(fleet, version="7", tags={"stage": "field"})
    sign(fleet, version="5", tags={"stage": "field"})
    with fleet.database.write() as connection:
        auto.signed(connection, newer)
    fleet.tick()
    assert rollouts(fleet) == [str(newer)]


def test_a_version_that_cannot_be_rolled_out_is_told_and_the_next_one_starts(fleet):
    """Nobody has a terabyte of memory; the rule goes on with the next version."""
    add(fleet)
    add(fleet, "other", slot=Slug("other"))
    sign(fleet, tags={"stage": "field"}, needs=Needs(memory_mb=1 << 20))
    assert rollouts(fleet) == []
    assert len(told(fleet)) == 2
    assert all("MiB of memory" in message for message in told(fleet))

    sign(fleet, tags={"stage": "field"})
    assert len(rollouts(fleet)) == 2


def test_rules_have_names_of_their_own_and_can_be_removed(fleet):
    """What a removed rule has started goes on; it starts nothing more."""
    add(fleet, tags={})
    with pytest.raises(Conflict, match="one of this name"):
        add(fleet)
    ref = sign(fleet)
    with fleet.database.write() as connection:
        auto.remove(connection, "night")
        with pytest.raises(Missing, match="no such rule"):
            auto.remove(connection, "night")
    sign(fleet)
    assert rollouts(fleet) == [str(ref)]
    assert fleet.view(1)["state"] == "running"
