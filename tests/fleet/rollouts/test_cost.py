"""What an event costs does not grow with the fleet: counted in the steps that SQLite takes for it."""

import pytest
from msgspec.structs import replace
from sqlalchemy import event, insert, select

from fleet.db import Database
from fleet.rollouts import control, joining, view
from fleet.rollouts.model import Budget, Policy, Wave
from fleet.tables import devices
from tests.doubles.device import HOST_FACTS
from tests.doubles.fleet_rows import SmallFleet

FEW, MANY = 20, 200
# What may be dearer in a fleet that is ten times as large: the depth of a tree, a page more.
NEARLY = 1.3


class Steps:
    """Counts what SQLite does: an index that is looked up is a few steps, a table that is read some for each row."""

    def __init__(self, database):
        self.taken = 0
        self.statements = []
        event.listen(database.engine, "checkout", self._watch)
        event.listen(database.engine, "before_cursor_execute", self._note)

    def _watch(self, connection, *_):
        connection.set_progress_handler(self._step, 1)

    def _step(self):
        self.taken += 1

    def _note(self, _connection, _cursor, statement, *_):
        self.statements.append(statement)

    def of(self, work):
        before = self.taken
        work()
        return self.taken - before


def fleet_of(folder, size):
    database = Database.at(folder / f"{size}.sqlite")
    database.migrate()
    fleet = SmallFleet(folder / str(size), database)
    fleet.add_device("dev-000", labels={"site": "berlin"})
    # As many rows as devices, without a signature for each.
    with database.write() as connection:
        one = connection.execute(select(devices)).mappings().one()
        connection.execute(insert(devices), [dict(one) | {"id": f"dev-{n:03}"} for n in range(1, size)])
    return fleet


@pytest.fixture
def costs(tmp_path):
    """Prepares a fleet of each size, then measures an event in it; the larger one's cost may be nearly the same."""
    made = []

    def measure(prepare, happens):
        taken = []
        for size in (FEW, MANY):
            fleet = fleet_of(tmp_path, size)
            made.append(fleet.database)
            prepared = prepare(fleet)
            taken.append(Steps(fleet.database).of(lambda one=fleet, two=prepared: happens(one, two)))
        assert taken[0] > 0
        assert taken[1] <= taken[0] * NEARLY, taken

    yield measure
    for database in made:
        database.close()


def rolled_out(fleet, **policy):
    return fleet.start(fleet.add_module("digits"), selector="site=berlin", policy=Policy(**policy))


def test_a_device_that_joins_late_costs_one_device(costs):
    """However many have joined before it."""

    def joins(fleet, _rollout):
        with fleet.database.write() as connection:
            assert not joining.some(connection, fleet.now, fleet.registry, fleet.engine._alone, limit=100)

    def late(fleet):
        rollout = rolled_out(fleet, waves=(Wave(count=1), Wave(percent=100.0)), late_joiners=True)
        fleet.add_device("late", labels={"site": "paris"})
        return rollout

    costs(late, joins)


def test_naming_a_device_costs_that_device(costs):
    """A rollout to one device reads no other."""
    costs(lambda fleet: fleet.add_module("digits"), lambda fleet, ref: fleet.start(ref, devices=("dev-000",)))


def test_a_report_that_changes_nothing_in_a_rollout_costs_one_device(costs):
    """Ingest and the tick after it."""
    costs(
        lambda fleet: (rolled_out(fleet), fleet.report("dev-000", "fetching")),
        lambda fleet, _: fleet.report("dev-000", "fetching"),
    )


def test_misfits_are_read_only_where_they_are_shown(tmp_path):
    """Thousands may not fit; no tick and no list reads them again."""
    fleet = fleet_of(tmp_path, FEW)
    fleet.add_device("small", labels={"site": "berlin"}, host=replace(HOST_FACTS, engines=()))
    rollout = rolled_out(fleet)
    steps = Steps(fleet.database)
    fleet.report("dev-000", "committed")
    with fleet.database.write() as connection:
        control.revert(connection, fleet.now, rollout)
        view.some(connection, limit=50)
    fleet.tick()
    assert len(steps.statements) > 10
    assert not any("misfits" in one for one in steps.statements)
    assert fleet.view(rollout)["misfits"] != []
    fleet.database.close()


def test_a_place_is_counted_by_the_database(tmp_path):
    """A statement that named each full place would be one that no database takes, once they are tens of thousands."""
    fleet = fleet_of(tmp_path, FEW)
    for number in range(10):
        fleet.add_device(f"busy-{number}", labels={"site": f"s{number}"})
    steps = Steps(fleet.database)
    fleet.start(fleet.add_module("digits"), policy=Policy(budget=Budget(label="site"), concurrency=30))
    asked = max(one.count("?") for one in steps.statements if "NOT IN" in one)
    assert asked < 10
    fleet.database.close()


def test_a_tick_in_which_nothing_happened_costs_nothing_more(costs):
    """With a rollout to everybody under way."""
    costs(rolled_out, lambda fleet, _: fleet.tick())
