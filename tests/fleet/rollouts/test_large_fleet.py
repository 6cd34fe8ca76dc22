"""What the engine reads and writes follows from what changed, and not from how many devices a fleet has."""

from collections import Counter
from contextlib import contextmanager

import pytest
from sqlalchemy import event, insert, select, update

from fleet.db import Database
from fleet.orders import WAITING
from fleet.rollouts import control, members, view
from fleet.rollouts.engine import ORDERS_PER_TICK
from fleet.rollouts.model import Policy, Wave
from fleet.tables import devices, rollouts
from tests.doubles.fleet_rows import SmallFleet

SMALL, LARGE = 500, 10_000
FIRST = 50
WAVES = Policy(waves=(Wave(count=FIRST), Wave(percent=100.0)))
# Steps of SQLite's virtual machine between two looks at what it does.
EVERY = 100


@pytest.fixture
def fleets(tmp_path):
    """Two fleets that differ by their size, each with a rollout whose first wave has its orders."""
    made = [fleet_of(size, tmp_path / str(size)) for size in (SMALL, LARGE)]
    yield made
    for one in made:
        one.database.close()


def fleet_of(size, folder):
    folder.mkdir()
    database = Database.at(folder / "fleet.sqlite")
    database.migrate()
    made = SmallFleet(folder, database)
    made.add_device("x-00000")
    with database.write() as connection:
        first = connection.execute(select(devices)).one()._mapping
        connection.execute(insert(devices), [dict(first) | {"id": f"x-{number:05}"} for number in range(1, size)])
    made.rollout = made.start(made.add_module("digits"), policy=WAVES)
    made.publish()
    return made


class Work:
    """Statements that were sent to the database, each once, with SQLite's steps for it."""

    def __init__(self):
        self.sent = Counter()
        self.steps = Counter()
        self.last = ""

    def step(self):
        self.steps[self.last] += EVERY

    def more_than(self, other):
        """The statements that took clearly more steps here."""
        return [one for one in self.sent if self.steps[one] > other.steps[one] + 20 * EVERY]


@contextmanager
def watched(database):
    work = Work()

    def sending(connection, _cursor, statement, _parameters, _context, _many):
        work.sent[statement] += 1
        work.last = statement
        connection.connection.dbapi_connection.set_progress_handler(work.step, EVERY)

    event.listen(database.engine, "before_cursor_execute", sending)
    try:
        yield work
    finally:
        event.remove(database.engine, "before_cursor_execute", sending)
        work.last = "what came after"


def tick(fleet):
    """One tick's work."""
    with watched(fleet.database) as work:
        fleet.engine.tick()
    return work


def open_second(fleet):
    with fleet.database.write() as connection:
        connection.execute(update(rollouts).values(wave=2, look_at=0.0))


def ordered(fleet):
    with fleet.database.read() as connection:
        return len(connection.execute(select(devices.c.id).where(devices.c.order_counter > 0)).all())


def test_a_tick_without_news_costs_the_same_in_a_large_fleet(fleets):
    """A few look-ups in indexes, whatever the number of devices."""
    small, large = map(tick, fleets)
    assert large.sent == small.sent
    assert large.sent.total() <= 12
    assert large.more_than(small) == []
    assert large.steps.total() <= 10 * EVERY


def test_a_hundred_orders_cost_the_same_in_a_large_fleet(fleets):
    """Some thirty statements for a hundred orders; only the judge's counts, from an index alone, see every member."""
    for fleet in fleets:
        open_second(fleet)
    small, large = map(tick, fleets)
    assert [ordered(fleet) for fleet in fleets] == [FIRST + ORDERS_PER_TICK] * 2
    assert large.sent == small.sent
    assert large.sent.total() <= 34
    grows = large.more_than(small)
    assert len(grows) <= 2
    assert all("count(*)" in one or "SELECT DISTINCT members.hardware" in one for one in grows)
    assert sum(large.steps[one] for one in grows) <= 30 * LARGE


@pytest.mark.long
def test_taking_back_a_hundred_orders_costs_the_same_in_a_large_fleet(fleets):
    """What is next is found in an index."""
    works = []
    for fleet in fleets:
        with fleet.database.write() as connection:
            control.revert(connection, fleet.now, fleet.rollout)
        works.append(tick(fleet))
    small, large = works
    assert large.more_than(small) == []


@pytest.mark.long
def test_orders_are_made_as_fast_as_the_broker_takes_them(fleets):
    """So many wait for it, and no more; what it takes makes room for the next, until every device has one."""
    fleet = fleets[0]
    open_second(fleet)
    fleet.tick()
    assert ordered(fleet) == FIRST + WAITING
    fleet.now += 3600.0
    fleet.tick()
    assert ordered(fleet) == FIRST + WAITING
    while ordered(fleet) < SMALL:
        before = ordered(fleet)
        fleet.publish()
        fleet.now += 0.1
        fleet.tick()
        assert before < ordered(fleet) <= before + WAITING
    with fleet.database.read() as connection:
        assert members.counts(connection, fleet.rollout) == {"working": SMALL}


@pytest.mark.long
def test_orders_are_taken_back_as_fast_as_the_broker_takes_them(fleets):
    """A revert waits for room, too, and needs no other word to go on."""
    fleet = fleets[0]
    open_second(fleet)
    fleet.tick()
    with fleet.database.write() as connection:
        control.revert(connection, fleet.now, fleet.rollout)
    fleet.tick()
    with fleet.database.read() as connection:
        assert members.counts(connection, fleet.rollout)["recalled"] == FIRST + WAITING
    for _ in range(3):
        fleet.publish()
        fleet.now += 0.1
        fleet.tick()
    with fleet.database.read() as connection:
        assert members.counts(connection, fleet.rollout)["returning"] == FIRST + WAITING


def test_a_rollout_is_shown_without_reading_what_its_devices_said(fleets):
    """Whoever looks every few seconds, and asks for a page of its devices besides, has none of them read for it."""
    for fleet in fleets:
        with fleet.database.read() as connection, watched(fleet.database) as work:
            shown = view.one(connection, fleet.rollout, with_devices=False)
        assert shown["counts"]
        assert shown["devices"] == []
        assert [one for one in work.sent if "detail" in one] == []
    with fleet.database.read() as connection, watched(fleet.database) as work:
        assert len(view.one(connection, fleet.rollout)["devices"]) == view.SHOWN
    assert [one for one in work.sent if "detail" in one]
