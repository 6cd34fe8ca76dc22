"""What endpoints cost, and what happens when a day's money is spent."""

import msgspec
import pytest
from sqlalchemy import delete, select

from fleet.fallback_tables import costs as rows
from fleet.fallbacks import costs
from fleet.tables import events
from fleet.targets.contract import Standing, VersionStands
from tests.fleet.fallbacks.conftest import URL

# 2026-12-01 00:00 UTC; the price is 3.6 an hour, a thousandth a second.
MIDNIGHT = 1_796_083_200.0
EVERY = ("dev-a", "dev-b", "dev-c")
A_SECOND = 0.001


@pytest.fixture
def fleet(fleet):
    fleet.now = MIDNIGHT + 3600
    return fleet


def spent(fleet):
    with fleet.database.read() as connection:
        return {row.day: (row.replica_s, pytest.approx(row.cost)) for row in connection.execute(select(rows))}


def today(fleet):
    with fleet.database.read() as connection:
        return costs.today(connection, fleet.now, "digits")


def count(fleet):
    with fleet.database.write() as connection:
        costs.count(connection, fleet.now)


def test_replicas_are_counted_by_the_second_and_by_the_day(fleet):
    """Of a day of UTC each its own part, whenever it is looked; nothing twice, and nothing lost while nobody looked."""
    fleet.endpoint(fleet.module())
    count(fleet)
    assert spent(fleet) == {}
    fleet.now = MIDNIGHT + 86400 - 10
    count(fleet)
    fleet.now += 1
    count(fleet)
    fleet.now += 29
    count(fleet)
    count(fleet)
    day = int(MIDNIGHT // 86400)
    assert {one: seconds for one, (seconds, _) in spent(fleet).items()} == {day: 86400 - 3600, day + 1: 20}
    assert today(fleet) == pytest.approx(20 * A_SECOND)


def test_what_stands_still_costs_nothing_and_what_is_on_its_way_does(fleet):
    """From when replicas are asked for until nothing of them is left."""
    fleet.endpoint(fleet.module(), state="updating")
    count(fleet)
    fleet.now += 100
    count(fleet)
    assert today(fleet) == pytest.approx(100 * A_SECOND)
    fleet.stands("stopped")
    fleet.now += 100
    count(fleet)
    assert today(fleet) == pytest.approx(100 * A_SECOND)


def test_replicas_that_are_ending_cost_until_they_are_gone(fleet):
    """Nobody asks for them any more, and two still answer what they owe."""
    fleet.endpoint(fleet.module(), state="updating")
    two = VersionStands(module="acme/digits:1", weight=100, wanted=0, ready=2)
    standing = msgspec.json.encode(Standing(state="updating", versions={"v1": two})).decode()
    row = fleet.row()._asdict() | {"scale": 0, "standing": standing}
    assert costs.replicas(type("Row", (), row)) == 2


def test_a_clock_that_goes_back_counts_nothing_twice(fleet):
    """It goes on from where the clock is."""
    fleet.endpoint(fleet.module())
    count(fleet)
    fleet.now += 100
    count(fleet)
    fleet.now -= 50
    count(fleet)
    assert today(fleet) == pytest.approx(100 * A_SECOND)


def test_old_days_are_forgotten(fleet):
    """After a hundred days."""
    fleet.endpoint(fleet.module())
    count(fleet)
    fleet.now += 100
    count(fleet)
    fleet.now += 102 * 86400
    with fleet.database.write() as connection:
        connection.execute(delete(rows).where(rows.c.day > MIDNIGHT // 86400))
    fleet.stands("stopped")
    count(fleet)
    assert spent(fleet) == {}


@pytest.fixture
def needed(fleet):
    """An endpoint that a device needs, within a bound of a thousand seconds a day."""
    ref = fleet.module()
    fleet.endpoint(ref)
    fleet.put("site=berlin", on_demand=True, linger_s=60, money_a_day=1000 * A_SECOND)
    fleet.start(ref, devices=EVERY)
    fleet.health("dev-a", "degraded")
    fleet.look()
    fleet.stands("ready")
    return fleet


def said(fleet):
    with fleet.database.read() as connection:
        return list(connection.scalars(select(events.c.message).where(events.c.kind == "fallback-spent")))


def test_a_spent_day_stops_it_and_devices_are_told(needed):
    """Orders are without it, an event says it once; and the next day it runs again, and orders have it."""
    assert needed.cloud("dev-a").url == f"{URL}/digits"
    needed.now += 900
    needed.look()
    assert (needed.row().scale, bool(needed.cloud("dev-a").closed), said(needed)) == (1, False, [])
    needed.now += 200
    assert needed.look() == (True, True)
    assert (needed.row().scale, needed.row().scale_why) == (
        0,
        "the money of today is spent; it may run again from 00:00 UTC on",
    )
    told = needed.cloud("dev-a")
    assert (told.when, "is spent; it is asked again from 00:00 UTC on" in told.closed) == ((), True)
    needed.stands("stopped")
    needed.look()
    assert len(said(needed)) == 1
    assert "the 1 a day are spent" in said(needed)[0]

    needed.now = MIDNIGHT + 86400 + 5
    assert needed.look() == (True, True)
    assert (needed.row().scale, needed.cloud("dev-a").when != ()) == (1, True)


def test_a_policy_that_is_not_spent_goes_on(needed):
    """One bound is one policy's: whoever has more money, or no bound, is served on."""
    needed.put("site=lyon", on_demand=True, linger_s=60, money_a_day=5000 * A_SECOND)
    needed.health("dev-c", "degraded")
    needed.now += 1100
    needed.look()
    assert (bool(needed.cloud("dev-a").closed), bool(needed.cloud("dev-c").closed)) == (True, False)
    # It runs for those of that policy alone.
    needed.look()
    assert (needed.row().scale, needed.row().scale_why) == (1, "it runs for 1 device where the module does not answer")


def test_a_server_that_was_killed_does_not_begin_the_day_anew(needed):
    """What is spent is spent, though everything else is found out again."""
    needed.now += 1100
    needed.look()
    needed.stands("stopped")
    needed.now += 3600
    assert needed.look() == (False, False)
    assert (needed.row().scale, bool(needed.cloud("dev-a").closed)) == (0, True)
    # Whoever gives more money need not wait until it is looked at.
    needed.put("site=berlin", on_demand=True, linger_s=60, money_a_day=9000 * A_SECOND)
    assert not needed.cloud("dev-a").closed


def test_the_days_before_are_told_with_those_on_which_nothing_ran(fleet):
    """One for each day of UTC, the oldest first, today's so far last; what is older is left out."""
    fleet.endpoint(fleet.module())
    count(fleet)
    fleet.now += 100
    count(fleet)
    fleet.now += 2 * 86400
    with fleet.database.write() as connection:
        costs.add(connection, "digits", fleet.now, cost=0.5, replica_s=7200.0, requests=40)
        found = costs.by_days(connection, fleet.now, "digits", 3)
        assert [one["day"] for one in found] == ["2026-12-01", "2026-12-02", "2026-12-03"]
        assert [one["cost"] for one in found] == [pytest.approx(100 * A_SECOND), 0.0, 0.5]
        assert [(one["replica_hours"], one["requests"]) for one in found[1:]] == [(0.0, 0), (2.0, 40)]
        assert [one["cost"] for one in costs.by_days(connection, fleet.now, "digits", 1)] == [0.5]
