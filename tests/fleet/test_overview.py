"""The fleet at a glance: its counts, and each thing that needs somebody."""

import pytest
from sqlalchemy import insert, update

from fleet import events
from fleet.attention import Server, Sight
from fleet.overview import KEPT_S, Overviews, overview
from fleet.people.roles import Grant
from fleet.people.scope import EVERYTHING, Scope
from fleet.rollouts.model import Policy, Wave
from fleet.tables import devices, stopped_kinds
from fleet.target_tables import targets
from modules.names import Slug
from modules.protocol.report import Health
from tests.doubles.fleet_rows import SmallFleet
from tests.parts import query_plans

DAY = 86_400
WELL = Server(broker="", trouble="", warnings=())
NOWHERE = Scope(())
ALL = Sight(*[EVERYTHING] * len(Sight._fields))


@pytest.fixture
def fleet(tmp_path, database):
    """Four devices that are online."""
    made = SmallFleet(tmp_path, database)
    for number in range(4):
        made.add_device(f"press-{number}", labels={"site": "berlin" if number < 2 else "lyon"})
    made.set = lambda name, **values: change(made, name, values)
    with database.write() as connection:
        connection.execute(update(devices).values(online=True, last_seen=made.now))
    return made


def change(fleet, name, values):
    with fleet.database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == name).values(**values))


def seen(fleet, sight=ALL, server=WELL):
    with fleet.database.read() as connection:
        return overview(connection, fleet.now, sight, server)


def needs(found):
    return {one["kind"]: one for one in found["attention"]}


def test_the_fleet_is_counted_in_indexes(tmp_path, newest):
    """SQLite's plan: of 100 000 devices, each in a rollout, no row is read."""
    with query_plans.empty(tmp_path, newest) as database:
        steps = query_plans.plans(database, lambda connection: overview(connection, 0.0, ALL, WELL))
    looks = [one for one in steps if " members" in one or " devices" in one]
    assert "SCAN members USING COVERING INDEX ix_members_counts" in looks
    assert [one for one in looks if "COVERING" not in one] == []


def test_a_fleet_that_is_well_needs_nobody(fleet):
    """And says so by an empty list; what runs is counted."""
    fleet.start(fleet.add_module("linear"), slot=Slug("digits"))
    fleet.publish()
    for name in ("press-0", "press-1", "press-2"):
        fleet.report(name, "committed", current=Health(state="up"))
    found = seen(fleet)
    assert found["attention"] == []
    assert found["devices"] == {
        "online": 4, "updating": 0, "degraded": 0, "offline": 0, "revoked": 0, "waiting": 0, "all": 4,
    }  # fmt: skip
    assert found["modules"] == [{"module": "acme/linear:1", "devices": 3, "on_the_way": 1}]
    [rollout] = found["rollouts"]
    assert (rollout["state"], rollout["counts_by_wave"]) == (
        "running",
        [{"wave": 1, "counts": {"succeeded": 3, "working": 1}}],
    )


def test_each_trouble_is_one_sentence_with_a_way_to_it(fleet):
    """The worst first: what does not work before what will not."""
    ref = fleet.add_module("linear")
    policy = Policy(waves=(Wave(count=1), Wave(percent=100)), approval=True)
    waits = fleet.start(ref, slot=Slug("waits"), policy=policy)
    failed = fleet.start(ref, slot=Slug("digits"), policy=Policy(on_failure="revert"))
    fleet.publish()
    fleet.report("press-1", "degraded", current=Health(state="degraded"))
    fleet.set("press-2", online=False, last_seen=fleet.now - 3 * DAY)
    with fleet.database.write() as connection:
        connection.execute(
            insert(targets).values(name="site", kind="container", attached="{}", trouble="no route", created=1.0)
        )
    fleet.now += 1
    found = seen(fleet, server=Server("it refuses the session", "", ("ca ends on 2027-01-01",)))
    items = needs(found)
    assert items["no-broker"]["says"].endswith("it refuses the session")
    assert items["ends-soon"]["about"] == "ca"
    assert items["target-trouble"]["says"] == "Target site cannot be reached: no route"
    assert (items["degraded"]["go"], items["offline"]["go"]) == ("/devices/press-1", "/devices/press-2")
    assert items["rollout-failed"]["go"] == f"/rollouts/{failed}"
    assert items["rollout-waits"]["command"] == f"edgefleet rollouts approve {waits}"
    levels = [one["level"] for one in found["attention"]]
    assert levels == sorted(levels)


def test_a_rollout_that_is_stopped_for_some_hardware_needs_somebody(fleet):
    """It runs on for others, and nobody would look: it says for which, and leads there."""
    rollout = fleet.start(fleet.add_module("linear"))
    with fleet.database.write() as connection:
        row = {"rollout": rollout, "hardware": "linux/amd64 cpu", "at": fleet.now, "reason": "1 of 1 devices failed"}
        connection.execute(insert(stopped_kinds).values(**row))
    stopped = needs(seen(fleet))["rollout-stopped"]
    assert "goes no further on linux/amd64 cpu" in stopped["says"]
    assert (stopped["level"], stopped["go"]) == ("bad", f"/rollouts/{rollout}")


def test_what_somebody_may_not_see_is_not_there(fleet):
    """Neither counted nor named: devices of another site, and whole parts without a right to them."""
    fleet.start(fleet.add_module("linear"), slot=Slug("digits"), selector="site=berlin")
    fleet.set("press-0", online=False, last_seen=1.0)
    with fleet.database.write() as connection:
        events.record(connection, 1.0, "forged-message", "a forgery", device="press-0")
    lyon = Scope((Grant("viewer", "site=lyon").area,))
    found = seen(fleet, Sight(lyon, lyon, lyon, NOWHERE, NOWHERE))
    assert found["devices"]["all"] == 2
    assert (found["rollouts"], found["modules"], found["events"], found["attention"]) == ([], [], [], [])
    assert found["steps"] == {}
    assert [one["message"] for one in seen(fleet)["events"]] == ["a forgery"]


def test_requests_are_added_up_as_gateways_counted_them(fleet):
    """By modules, by the cloud, by nobody; what is old does not count."""
    for name in ("press-0", "press-1"):
        fleet.measured(name, 1, stream="gateway", requests=90.0, fallback=9.0, unanswered=1.0)
    assert seen(fleet)["answered"] == {"devices": 2, "module": 180.0, "cloud": 18.0, "nobody": 2.0}
    fleet.now += DAY
    assert seen(fleet)["answered"] is None


def test_one_answer_is_for_all_who_see_the_same_for_two_seconds(fleet):
    """And for nobody who sees less."""
    kept = Overviews(fleet.database, fleet.clock)
    first = kept.of(ALL, lambda: WELL, whole=True)
    assert kept.of(ALL, lambda: WELL, whole=True) is first
    assert kept.of(ALL, lambda: WELL, whole=False) is not first
    fleet.now += KEPT_S
    assert kept.of(ALL, lambda: WELL, whole=True) is not first
