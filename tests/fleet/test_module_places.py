"""Where module versions are: the devices whose slots are ordered to them."""

import pytest

from fleet import module_places, removal
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.refusals import Missing
from fleet.selectors import parse
from modules.names import DeviceId, ModuleRef, Slug
from tests.parts import query_plans

BERLIN = Scope((Area(parse("site=berlin"), None),))
OTHERS = Scope((Area(parse("*"), frozenset({"zebra"})),))


@pytest.fixture
def two(small_fleet):
    """Two devices, of which the first has the first version in two slots, and the second the second."""
    fleet = small_fleet
    fleet.add_device("dev-a", labels={"site": "berlin"})
    fleet.add_device("dev-b")
    fleet.refs = [fleet.add_module("digits"), fleet.add_module("digits")]
    for slot in ("left", "right"):
        fleet.start(fleet.refs[0], slot=Slug(slot), devices=("dev-a",))
    fleet.start(fleet.refs[1], slot=Slug("left"), devices=("dev-b",))
    return fleet


def counted(fleet, scope=EVERYTHING):
    with fleet.database.read() as connection:
        return module_places.counted(connection, scope)


def places(fleet, ref, scope=EVERYTHING, **more):
    with fleet.database.read() as connection:
        given = {"after": "", "limit": 10} | more
        return module_places.some(connection, fleet.registry, ref, scope, **given)


def test_a_device_counts_once_for_a_module_however_many_slots_it_has(two):
    """And what replaces a version takes its place."""
    first, second = map(str, two.refs)
    assert counted(two) == {"devices": 2, "modules": {first: 1, second: 1}}
    two.start(two.refs[1], slot=Slug("left"), devices=("dev-a",))
    assert counted(two)["modules"] == {first: 1, second: 2}
    assert places(two, two.refs[1])[0]["slots"] == ["left"]


def test_the_devices_of_a_module_come_page_by_page(two):
    """A device with two slots is one row."""
    assert places(two, two.refs[0]) == [{"device": "dev-a", "online": False, "slots": ["left", "right"]}]
    assert places(two, two.refs[0], after="dev-a") == []
    two.start(two.refs[1], slot=Slug("right"))
    assert [one["device"] for one in places(two, two.refs[1], limit=1)] == ["dev-a"]
    assert [one["device"] for one in places(two, two.refs[1], after="dev-a")] == ["dev-b"]


def test_a_device_that_was_taken_out_runs_nothing(two):
    """Nothing of it is left to be counted."""
    with two.database.write() as connection:
        removal.remove_device(connection, two.now, DeviceId("dev-a"))
    assert counted(two) == {"devices": 1, "modules": {str(two.refs[1]): 1}}
    assert places(two, two.refs[0]) == []


def test_devices_of_modules_are_counted_in_one_index(tmp_path, newest):
    """SQLite's plan: of 100 000 slots, which have their orders in them, none is read."""
    with query_plans.empty(tmp_path, newest) as database:
        steps = query_plans.plans(database, lambda connection: module_places.counted(connection, EVERYTHING))
    assert "SCAN slots USING COVERING INDEX ix_slots_rollout_device" in steps
    assert [one for one in steps if "slots" in one and "COVERING" not in one] == []


def test_what_lies_outside_of_somebody_s_rights_is_not_counted(two):
    """Devices by their labels, modules by their team."""
    assert counted(two, BERLIN) == {"devices": 1, "modules": {str(two.refs[0]): 1}}
    assert places(two, two.refs[1], BERLIN) == []
    assert counted(two, OTHERS)["modules"] == {}


def test_a_module_that_is_not_there_is_nowhere(two):
    """It is told, and not answered with an empty list."""
    with pytest.raises(Missing):
        places(two, ModuleRef.parse("acme/none:1"))
