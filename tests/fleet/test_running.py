"""On how many devices each version runs: by what was committed there, and not by what is planned."""

import pytest

from fleet import running
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.rollouts import control
from fleet.rollouts.model import Policy, Wave
from fleet.selectors import parse
from modules.names import Slug
from modules.protocol.report import Health

WAVES = Policy(waves=(Wave(count=1), Wave(percent=100)))
NAMES = ("dev-0", "dev-1", "dev-2")


@pytest.fixture
def fleet(small_fleet):
    """Three devices that run the first version of a module, and two more versions."""
    for name in NAMES:
        small_fleet.add_device(name, labels={"site": "berlin" if name == "dev-0" else "lyon"})
    small_fleet.refs = [small_fleet.add_module("linear") for _ in range(3)]
    small_fleet.start(small_fleet.refs[0])
    committed(small_fleet, *NAMES)
    return small_fleet


def committed(fleet, *names):
    fleet.publish()
    for name in names:
        fleet.report(name, "committed", current=Health(state="up"))


def counted(fleet, scope=EVERYTHING):
    """Versions with how many run it and how many are to."""
    with fleet.database.read() as connection:
        found = running.counted(connection, scope, most=20)
    return {one["module"].rpartition(":")[2]: (one["devices"], one["on_the_way"]) for one in found}


def test_a_newer_rollout_takes_no_device_from_what_runs_there(fleet):
    """Not while it is planned, not on its way: only once the newer version is committed."""
    assert counted(fleet) == {"1": (3, 0)}
    fleet.start(fleet.refs[1], policy=WAVES)
    assert counted(fleet) == {"1": (3, 0), "2": (0, 1)}
    fleet.start(fleet.refs[2], policy=WAVES)  # two are planned, one upon the other
    assert counted(fleet) == {"1": (3, 0), "3": (0, 1)}
    fleet.publish()
    fleet.report("dev-0", "probation")
    assert counted(fleet) == {"1": (3, 0), "3": (0, 1)}
    fleet.report("dev-0", "committed", current=Health(state="up"))
    assert counted(fleet) == {"1": (2, 0), "3": (1, 2)}


def test_what_went_back_runs_what_was_there_before(fleet):
    """By itself, or taken back by somebody; and what degrades still runs what it has."""
    rollout = fleet.start(fleet.refs[1], policy=Policy(waves=(Wave(count=2), Wave(percent=100))))
    fleet.publish()
    fleet.report("dev-0", "reverted")
    fleet.report("dev-1", "committed", current=Health(state="up"))
    assert counted(fleet) == {"1": (2, 0), "2": (1, 0)}
    fleet.report("dev-1", "degraded", current=Health(state="degraded"))
    assert counted(fleet) == {"1": (2, 0), "2": (1, 0)}
    fleet.act(rollout, "revert")
    committed(fleet, "dev-1")
    assert counted(fleet) == {"1": (3, 0)}


def test_a_slot_that_was_emptied_or_a_device_that_is_new_runs_nothing(fleet):
    fleet.add_device("dev-3")
    fleet.start(fleet.refs[1], devices=("dev-3",))
    assert counted(fleet) == {"1": (3, 0), "2": (0, 1)}
    fleet.start(fleet.refs[2], devices=("dev-3",), slot=Slug("other"))
    committed(fleet, "dev-3")
    fleet.report("dev-3", "committed", slot="other", current=Health(state="up"))
    assert counted(fleet) == {"1": (3, 0), "2": (1, 0), "3": (1, 0)}
    with fleet.database.write() as connection:
        control.empty_slot(connection, fleet.now, fleet.orders, "dev-0", Slug("digits"))
    assert counted(fleet) == {"1": (2, 0), "2": (1, 0), "3": (1, 0)}


def test_what_lies_outside_of_somebody_s_rights_is_not_counted(fleet):
    """Devices by their labels; and of another team not what runs where one's own module is planned."""
    fleet.start(fleet.refs[1], policy=WAVES)
    berlin = Scope((Area(parse("site=berlin"), None),))
    assert counted(fleet, berlin) == {"1": (1, 0), "2": (0, 1)}
    assert counted(fleet, Scope((Area(parse("*"), frozenset({"zebra"})),))) == {}
