"""What is older than is kept goes, in small steps; what a slot, a revert or a person may still need stays."""

import asyncio
import time

import pytest
from sqlalchemy import event, func, insert, select, update

from fleet import setup, tokens
from fleet.app import create_app
from fleet.command_tables import command_parts, commands
from fleet.db import Database
from fleet.folder import Folder
from fleet.meters import Meters
from fleet.people import operators, sessions
from fleet.people.roles import Grant
from fleet.refusals import Conflict, Missing
from fleet.retention import AT_ONCE, EVENTS_KEPT, REVISIONS_KEPT, Retention
from fleet.rollouts import control, policy
from fleet.settings import DAY_S, Settings
from fleet.tables import events, history, members, rollouts, slot_revisions, slots
from fleet.tables import sessions as session_rows
from fleet.tables import tokens as token_rows
from modules.names import DeviceId
from tests.parts.mosquitto import free_port
from tests.parts.pace import stretched

YEAR = 365 * DAY_S


def count(database, table, *where):
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one()


@pytest.fixture
def forget(database, small_fleet):
    """Runs passes to the end; returns how many steps it took, and what was counted by table."""

    def go(**settings):
        meters = Meters()
        retention = Retention(database, small_fleet.clock, meters, Settings(**settings))
        steps = 0
        for _ in range(2):  # what one pass marks and the next finds
            while retention.step():
                steps += 1
        samples = [one for family in meters.registry.collect() for one in family.samples]
        counted = {one.labels["table"]: one.value for one in samples if one.name == "edgefleet_forgotten_rows_total"}
        return steps, counted

    return go


def shipped(fleet, *names):
    """Versions of one model, each rolled out to dev-a and committed there; their rollouts."""
    found = []
    for _ in names:
        found.append(fleet.start(fleet.add_module("digits"), devices=("dev-a",)))
        fleet.report("dev-a", "committed")
    return found


@pytest.fixture
def old(small_fleet):
    """Three versions, one after the other, more than two years ago."""
    small_fleet.add_device("dev-a")
    small_fleet.rollouts = shipped(small_fleet, "one", "two", "three")
    small_fleet.now += 2 * YEAR + 1
    return small_fleet


def test_old_events_go_and_the_newest_stay(database, small_fleet, forget):
    """After a year; but the newest thousand tell what happened last, however long ago that was."""
    with database.write() as connection:
        rows = [{"at": small_fleet.now - YEAR - 1, "kind": "old", "message": ""} for _ in range(EVENTS_KEPT + 700)]
        connection.execute(insert(events), rows)
        connection.execute(insert(events).values(at=small_fleet.now - YEAR + 60, kind="young", message=""))

    _, counted = forget()

    assert counted == {"events": 701}
    assert count(database, events) == EVENTS_KEPT
    assert count(database, events, events.c.kind == "young") == 1


def test_an_old_rollout_loses_its_devices_and_says_so(database, old, forget):
    """Those whose slot a newer version has taken, twice: what runs now and what stood before it are kept."""
    forget()

    for table in (members, history):
        assert [count(database, table, table.c.rollout == one) > 0 for one in old.rollouts] == [False, True, True]
    shown = [old.view(one)["forgotten"] for one in old.rollouts]
    assert shown == [old.now, None, None]
    assert old.view(old.rollouts[0])["devices"] == []


def test_a_rollout_that_is_forgotten_is_not_reverted(database, old, forget):
    """It would say that it was, and no device would have gone back."""
    forget()
    with database.write() as connection, pytest.raises(Conflict, match="older than the server keeps"):
        control.revert(connection, old.now, old.rollouts[0])
    assert old.view(old.rollouts[0])["state"] == "done"


def test_after_forgetting_a_revert_goes_back_to_what_ran_before(database, old, forget):
    """The newest rollout is taken back after years: the device gets the version before, whose rollout decides again."""
    forget()
    with database.write() as connection:
        control.revert(connection, old.now, old.rollouts[2])
    old.tick()

    assert old.order("dev-a").slots["digits"].manifest.endswith("/2.json")
    assert old.view(old.rollouts[1])["devices"][0]["standing"] == "succeeded"


@pytest.mark.parametrize(
    "values",
    [{"state": "running"}, {"state": "paused"}, {"state": "scheduled"}, {"state": "reverting"}],
    ids=lambda values: values["state"],
)
def test_an_open_rollout_is_kept(database, old, forget, values):
    """However old it is."""
    with database.write() as connection:
        connection.execute(update(rollouts).where(rollouts.c.id == old.rollouts[0]).values(**values))
    forget()
    assert count(database, members, members.c.rollout == old.rollouts[0]) == 1


def test_a_rollout_to_which_something_happened_is_kept(database, old, forget):
    """Its age counts from its last change, not from its beginning."""
    with database.write() as connection:
        connection.execute(insert(history).values(rollout=old.rollouts[0], at=old.now - DAY_S, what="reverted"))
    forget()
    assert count(database, members, members.c.rollout == old.rollouts[0]) == 1
    old.now += 2 * YEAR
    forget()
    assert count(database, members, members.c.rollout == old.rollouts[0]) == 0


@pytest.mark.parametrize("standing", ["recalled", "returning"])
def test_a_device_on_its_way_back_keeps_its_rollout(database, old, forget, standing):
    """An offline device of a cancelled rollout has still to answer."""
    with database.write() as connection:
        mine = members.c.rollout == old.rollouts[0]
        connection.execute(update(members).where(mine).values(standing=standing))
    forget()
    assert count(database, members, members.c.rollout == old.rollouts[0]) == 1


def test_a_slot_that_it_fills_keeps_a_rollout(database, old, forget):
    """What a device runs has its rollout beside it, whatever became of the device's place in it."""
    with database.write() as connection:
        connection.execute(update(members).values(current=False, superseded_by=None))
    forget()
    assert [count(database, members, members.c.rollout == one) for one in old.rollouts] == [0, 0, 1]


def test_a_device_that_it_decides_about_keeps_a_rollout(database, old, forget):
    """Even where its slot has just been emptied."""
    with database.write() as connection:
        connection.execute(slots.delete())
    forget()
    assert [count(database, members, members.c.rollout == one) for one in old.rollouts] == [0, 1, 1]


def test_late_joiners_do_not_get_an_old_version_again(database, small_fleet, forget):
    """Where a rollout takes late joiners, what newer ones say is kept, so that no device goes back by itself."""
    small_fleet.add_device("dev-a")
    wide = small_fleet.start(small_fleet.add_module("digits"), policy=policy.read({"late_joiners": True}))
    small_fleet.report("dev-a", "committed")
    [newer] = shipped(small_fleet, "newer")
    with database.write() as connection:
        control.empty_slot(connection, small_fleet.now, small_fleet.orders, "dev-a", "digits")
    small_fleet.now += 3 * YEAR
    forget()

    assert count(database, members, members.c.rollout == newer) == 1
    assert count(database, members, members.c.rollout == wide) == 1


def revised(fleet, number):
    """So many decisions for dev-a's slot, all long ago."""
    with fleet.database.write() as connection:
        last = connection.execute(select(slot_revisions).order_by(slot_revisions.c.revision.desc())).first()._asdict()
        rows = [last | {"revision": last["revision"] + more} for more in range(1, number + 1)]
        connection.execute(insert(slot_revisions), rows)


def revisions(database):
    with database.read() as connection:
        return list(connection.scalars(select(slot_revisions.c.revision).order_by(slot_revisions.c.revision)))


def test_the_newest_decisions_of_a_slot_stay(database, old, forget):
    """The newest ten; and those that a rollout which is kept has brought, with what it would go back to."""
    revised(old, 30)

    _, counted = forget()

    newest = list(range(34 - REVISIONS_KEPT, 34))
    assert revisions(database) == [1, 2, 3, *newest]  # rollouts 2 and 3 brought 2 and 3, and go back to 1 and 2
    assert counted["slot_revisions"] == 20


def test_young_decisions_stay(database, old, forget):
    """However many there are."""
    revised(old, 30)
    forget(keep_history_s=3 * YEAR)
    assert len(revisions(database)) == 33


@pytest.mark.long
def test_a_hundred_thousand_rows_go_in_small_transactions(database, old, forget):
    """No transaction deletes more than some hundred rows or holds the database long, and none is left over."""
    many = 100_000
    first = old.rollouts[0]
    with database.write() as connection:
        at = old.now - 3 * YEAR
        connection.execute(insert(events), [{"at": at, "kind": "old", "message": "x"} for _ in range(many)])
        connection.execute(insert(history), [{"rollout": first, "at": at, "what": "x"} for _ in range(many)])
    revised(old, 2000)
    began, lasted, rows = {}, [], []

    @event.listens_for(database.engine, "begin")
    def begin(connection):
        began[id(connection.connection.dbapi_connection)] = time.perf_counter()

    @event.listens_for(database.engine, "commit")
    def commit(connection):
        lasted.append(time.perf_counter() - began[id(connection.connection.dbapi_connection)])

    @event.listens_for(database.engine, "after_cursor_execute")
    def executed(_connection, cursor, statement, *_):
        if statement.startswith("DELETE"):
            rows.append(cursor.rowcount)

    steps, counted = forget()

    assert counted["events"] >= many - EVENTS_KEPT
    assert counted["history"] >= many
    assert counted["slot_revisions"] >= 1990
    assert count(database, history, history.c.rollout == first) == 0
    assert max(rows) <= AT_ONCE
    assert steps >= 2 * (many - EVENTS_KEPT) // AT_ONCE
    assert sorted(lasted)[len(lasted) // 2] < 0.1
    # But for some that may meet a disk which is busy with others.
    assert sorted(lasted)[len(lasted) * 95 // 100] < 1


def test_a_server_that_was_stopped_in_the_middle_goes_on(database, old):
    """What is marked as forgotten goes after a restart, too."""
    with database.write() as connection:
        first = old.rollouts[0]
        connection.execute(insert(history), [{"rollout": first, "at": 1.0, "what": "x"} for _ in range(3 * AT_ONCE)])
    one = Retention(database, old.clock, Meters(), Settings())
    while old.view(old.rollouts[0])["forgotten"] is None:
        assert one.step()
    one.step()
    assert count(database, history, history.c.rollout == first) > 0

    other = Retention(database, old.clock, Meters(), Settings())
    while other.step():
        pass
    assert count(database, history, history.c.rollout == first) == 0


async def test_a_server_forgets_by_itself(tmp_path):
    """From its start on, without anybody asking."""
    folder = Folder(tmp_path / "data")
    setup.initialise(folder, time.time)
    settings = Settings(data=folder.root, broker_host="127.0.0.1", broker_service_port=free_port())
    made = Database.at(folder.database)
    with made.write() as connection:
        rows = [{"at": 1.0, "kind": "old", "message": ""} for _ in range(EVENTS_KEPT + AT_ONCE + 1)]
        connection.execute(insert(events), rows)
    application = create_app(settings)
    async with application.router.lifespan_context(application), asyncio.timeout(stretched(60)):
        while count(made, events) > EVENTS_KEPT:  # noqa: ASYNC110 - the rows are in a database
            await asyncio.sleep(0.05)
    made.close()


def test_nothing_is_needed_of_what_is_young(database, small_fleet, forget):
    """A fleet of last year is whole."""
    small_fleet.add_device("dev-a")
    shipped(small_fleet, "one", "two", "three", "four")
    small_fleet.now += YEAR - DAY_S
    _, counted = forget()
    assert counted == {}


@pytest.mark.parametrize("name", ["keep_events_s", "keep_history_s", "keep_rollouts_s"])
def test_less_than_a_day_is_no_setting(name):
    """A slip of the keyboard forgets nothing."""
    with pytest.raises(ValueError, match=name):
        Settings(**{name: 60})


@pytest.fixture
def answered(small_fleet):
    """Commands with results, one that was answered 100 days ago, one 10 days ago, and one that nobody answered."""
    small_fleet.add_device("dev-a")
    small_fleet.started = small_fleet.now
    found = {}
    for name, days in (("old", 100), ("lately", 10), ("open", 5)):
        small_fleet.now = small_fleet.started - days * DAY_S
        found[name] = small_fleet.give("diagnose", device=DeviceId("dev-a"), expires_s=7 * DAY_S)[0]["dev-a"]
        command = small_fleet.signed_command(found[name])
        state = "running" if name == "open" else "done"
        parts = [small_fleet.answer(command, number, "running", data=b"x" * 10) for number in range(1, 151)]
        small_fleet.ingest.commit([*parts, small_fleet.answer(command, 151, state, data=b"y")])
    small_fleet.now = small_fleet.started
    return found


def test_results_of_commands_go_before_the_commands(small_fleet, answered, database, forget):
    """In small steps; what a command that is not over has brought stays, however old."""
    _, counted = forget(keep_results_s=4 * DAY_S)
    assert counted == {"command_parts": 302, "commands": 1}
    assert count(database, commands) == 2
    assert count(database, command_parts) == 151
    assert small_fleet.command(answered["lately"])["answers"] == 151
    with pytest.raises(Missing):
        small_fleet.command(answered["old"])
    assert len(small_fleet.command(answered["open"])["parts"]) == 151


def test_a_command_takes_along_what_is_left_of_its_result(answered, database, forget):
    """Where results are to be kept for longer than commands."""
    _, counted = forget(keep_commands_s=50 * DAY_S, keep_results_s=YEAR)
    assert counted == {"command_parts": 151, "commands": 1}
    assert count(database, command_parts) == 302


def test_tokens_go_a_month_after_their_end_and_sessions_at_it(forget, database, small_fleet):
    """By the end that was said, or since they were revoked; one that holds stays, and no number is given twice."""
    fleet = small_fleet

    def make(name, life_s):
        with database.write() as connection:
            tokens.create(connection, fleet.now, kind="api", role="viewer", name=name, life_s=life_s)

    for name, life_s in (("over", 60.0), ("taken-back", None), ("for-ever", None), ("newest", 60.0)):
        make(name, life_s)
    with database.write() as connection:
        connection.execute(update(token_rows).where(token_rows.c.name == "taken-back").values(revoked=fleet.now))
        operators.add(connection, fleet.now, "anna", [Grant("admin")], password=None)
        sessions.begin(connection, fleet.now, 1, life_s=3600)
        sessions.begin(connection, fleet.now, 1, life_s=YEAR)

    def left():
        with database.read() as connection:
            return list(connection.scalars(select(token_rows.c.name).order_by(token_rows.c.id)))

    fleet.now += 30 * DAY_S - 1
    forget()
    assert (left(), count(database, session_rows)) == (["over", "taken-back", "for-ever", "newest"], 1)
    fleet.now += 62
    _, counted = forget()
    assert left() == ["for-ever", "newest"]
    assert counted["tokens"] == 2
    make("next", None)
    with database.read() as connection:
        assert list(connection.scalars(select(token_rows.c.id).order_by(token_rows.c.id))) == [3, 4, 5]
