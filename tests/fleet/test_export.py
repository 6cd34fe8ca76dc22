"""The fleet's data as tables: what is given out is what was announced, page by page, whatever a device said."""

import sqlite3
import tracemalloc

import msgspec
import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import insert, update

from fleet.db import Database
from fleet.export import columns, pages, rows
from fleet.export.pages import SOURCES, Source
from fleet.refusals import Missing
from fleet.tables import devices, events
from modules.errors import Invalid
from modules.protocol.measured import Measured
from modules.protocol.report import Health, Reason, Running
from tests.doubles.fleet_rows import slot_report

PYTHON = {"INTEGER": int, "REAL": (int, float), "TEXT": str}


def read(database, table):
    """All rows of a table, and how long each page was."""
    found, lengths, after = [], [], None
    while True:
        with database.read() as connection:
            page = pages.page(connection, table, after)
        found += page.rows
        lengths.append(len(page.rows))
        if (after := page.after) is None:
            return found, lengths


@pytest.fixture
def busy(small_fleet):
    """A device that committed one version and fails the next, one that says nothing, one without facts."""
    for name in ("dev-a", "dev-b"):
        small_fleet.add_device(name, labels={"site": "berlin", "line": "2"})
    small_fleet.add_device("dev-c", host=None)
    small_fleet.start(small_fleet.add_module("digits"), devices=("dev-a",))
    small_fleet.report("dev-a", "committed")
    small_fleet.start(small_fleet.add_module("digits"), devices=("dev-a", "dev-b"))
    wanted = small_fleet.order("dev-a").slots["digits"]
    said = slot_report(
        small_fleet,
        "dev-a",
        "reverted",
        attempts=2,
        reason=Reason("health-failed", "it answered wrongly"),
        serving=Running(module="acme/digits:1", digest=wanted.digest, provider="CPUExecutionProvider"),
        current=Health(state="up", restarts=3),
        measured=Measured(seconds=60, requests=7, errors=1, p50_ms=2.5),
    )
    small_fleet.send("dev-a", [said], order=2)
    with small_fleet.database.write() as connection:
        connection.execute(insert(events).values(at=1.0, kind="enrolled", device="dev-a", message="it joined"))
    for number, stream in enumerate(("host", "modules", "host"), 1):
        small_fleet.measured("dev-a", number, stream=stream)
    small_fleet.give("ping", device="dev-a")
    return small_fleet


@pytest.mark.parametrize("table", columns.TABLES, ids=lambda table: table.name)
def test_rows_have_the_columns_that_were_announced(busy, database, table):
    """Each row of each table has exactly the documented columns, in their types, and keys that no other row has."""
    found, _ = read(database, table.name)
    assert found
    for row in found:
        assert list(row) == [column.name for column in table.columns]
        for column in table.columns:
            assert row[column.name] is None or isinstance(row[column.name], PYTHON[column.type]), column.name
    keys = [tuple(row[name] for name in table.key) for row in found]
    assert keys == sorted(set(keys))


def test_every_table_has_a_source():
    """What is described can be read, and nothing else."""
    assert set(SOURCES) == {table.name for table in columns.TABLES}


def test_a_report_is_taken_apart(busy, database):
    """What a device says of a slot is one row: wanted and serving, why, and what it measured."""
    [said] = read(database, "reports")[0]

    assert (said["device"], said["slot"], said["phase"], said["attempts"]) == ("dev-a", "digits", "reverted", 2)
    assert (said["reason_code"], said["serving_module"]) == ("health-failed", "acme/digits:1")
    assert (said["health"], said["restarts"], said["requests"], said["errors"]) == ("up", 3, 7, 1)
    assert said["temperature_c"] is None


def test_a_command_is_told_with_what_became_of_it(busy, database):
    """Who gave it to whom, and how it ended; of its result only how much came."""
    (ident,) = busy.give("logs", device="dev-a", slot="digits")[0].values()
    busy.ingest.commit([busy.answer(busy.signed_command(ident), 1, "done", data=b"line")])
    ping, logs = read(database, "commands")[0]

    assert (ping["name"], ping["state"], ping["by"], ping["ended"]) == ("ping", "waiting", "token 1 (admin)", None)
    assert (logs["id"], logs["device"], logs["slot"], logs["state"]) == (ident, "dev-a", "digits", "done")
    assert (logs["answers"], logs["bytes"], logs["reason_code"], logs["ended"] is None) == (1, 4, None, False)


def test_what_was_ordered_is_named_as_people_name_it(busy, database):
    """Revisions and slots have team/name:version, and who decided."""
    found, _ = read(database, "slot_revisions")

    assert [(one["device"], one["revision"], one["module"]) for one in found[:2]] == [
        ("dev-a", 1, "acme/digits:1"),
        ("dev-a", 2, "acme/digits:2"),
    ]
    assert read(database, "slots")[0][0]["module"] == "acme/digits:2"


def test_pages_together_are_the_table(database, monkeypatch):
    """However the rows fall into pages, each comes once and none is left out."""
    with database.write() as connection:
        for number in range(7):
            connection.execute(insert(events).values(at=number, kind="test", message=str(number)))
    whole, _ = read(database, "events")
    for length in range(1, 9):
        monkeypatch.setitem(SOURCES, "events", SOURCES["events"]._replace(at_once=length))
        found, lengths = read(database, "events")
        assert found == whole
        assert max(lengths) == min(length, 7)


def test_a_message_with_many_figures_ends_its_page(busy, database, monkeypatch):
    """Whatever devices send, the server holds a few thousand rows at a time, and none is left out."""
    whole, _ = read(database, "telemetry_history")
    monkeypatch.setattr(pages, "MOST_ROWS", 1)
    found, lengths = read(database, "telemetry_history")
    assert found == whole
    assert max(lengths) == len(whole) // 3
    assert busy


def test_a_table_is_read_in_pages_by_its_whole_key(busy, database, monkeypatch):
    """Members of one rollout, and slots of one device, go over the edge of a page."""
    for table in ("members", "slot_revisions", "labels"):
        whole, _ = read(database, table)
        monkeypatch.setitem(SOURCES, table, SOURCES[table]._replace(at_once=1))
        assert read(database, table)[0] == whole


@pytest.mark.parametrize(
    "after",
    ["", "x", "[", "[]", "null", "5", '["5"]', "[5,5]", "[true]", "[-1]", "[9223372036854775808]", "[1.5]", "[" * 400],
)
def test_what_no_page_gave_is_refused(database, after):
    """A cursor from elsewhere reaches no database."""
    with database.read() as connection, pytest.raises(Invalid):
        pages.page(connection, "events", after)


@pytest.mark.parametrize("table", ["tokens", "certificates", "events; DROP TABLE events", ""])
def test_no_other_table_is_given_out(database, table):
    """Tokens and certificates are no part of an export."""
    with database.read() as connection, pytest.raises(Missing):
        pages.page(connection, table, None)


def test_nothing_secret_is_among_the_columns():
    """Keys, certificates, tokens and signed orders stay with the server."""
    named = {column.name for table in columns.TABLES for column in table.columns}
    assert not {name for name in named if any(part in name for part in ("key", "token", "certificate", "envelope"))}


def test_removed_devices_are_named_without_their_labels(busy, database):
    """History refers to devices that are gone, so they stay in the list, with the time."""
    with database.write() as connection:
        connection.execute(update(devices).where(devices.c.id == "dev-b").values(removed=9.0, facts=None))
    found = {row["id"]: row for row in read(database, "devices")[0]}
    assert found["dev-b"]["removed"] == "1970-01-01T00:00:09.000Z"
    assert {row["device"] for row in read(database, "labels")[0]} == {"dev-a"}


@pytest.mark.parametrize("unix", [0.0, 1.5, 1795919130.123, 253402300799.0])
def test_times_are_read_by_sqlite(unix):
    """SQLite's date functions read every time, to the millisecond."""
    with sqlite3.connect(":memory:") as connection:
        [[back]] = connection.execute("SELECT (julianday(?) - 2440587.5) * 86400", (rows.moment(unix),)).fetchall()
    assert back == pytest.approx(unix, abs=0.01)


@pytest.mark.parametrize("unix", [1e300, -1e300, 9e18])
def test_a_clock_that_is_mad_is_no_obstacle(unix):
    """A device's clock says anything; it is then not known."""
    assert rows.moment(unix) is None


def test_a_page_is_read_by_the_index(tmp_path):
    """A page in the middle costs what the first one does: SQLite finds it by the key, and sorts nothing."""
    made = Database.at(tmp_path / "own.sqlite")
    made.migrate()
    told = []

    @sqlalchemy_event.listens_for(made.engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_):
        told.append((statement, parameters))

    for table, after in (("members", '[1,"dev-a"]'), ("slot_revisions", '["dev-a","digits",1]'), ("events", "[1]")):
        with made.read() as connection:
            told.clear()
            pages.page(connection, table, after)
            statement, parameters = told[-1]
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        assert any("SEARCH" in line for line in plan), (table, plan)
        assert not any("TEMP B-TREE" in line for line in plan), (table, plan)
    made.close()


@pytest.mark.long
def test_a_page_of_the_largest_reports_stays_within_memory(busy, database):
    """Every device says as much as it may: the server holds a page of them, and no more."""
    with database.read() as connection:
        row = connection.execute(devices.select().where(devices.c.id == "dev-a")).one()._asdict()
    report = msgspec.json.decode(row["report"])
    one = report["slots"][0] | {"reason": {"code": "health-failed", "message": "x" * 500}}
    report["slots"] = [one | {"slot": f"slot-{number}"} for number in range(100)]
    data = msgspec.json.encode(report)
    with database.write() as connection:
        many = [row | {"id": f"more-{number:04}", "report": data} for number in range(600)]
        connection.execute(insert(devices), many)
    tracemalloc.start()
    try:
        count = sum(read_lengths(database, "reports"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 600 * 100 + 1
    assert peak < 40 << 20


def read_lengths(database, table):
    after = ""
    while after is not None:
        with database.read() as connection:
            page = pages.page(connection, table, after or None)
        after = page.after
        yield len(page.rows)


def test_sources_are_sorted_by_the_announced_key():
    """A source's key is the table's, or the device's where a device has several rows."""
    for table in columns.TABLES:
        source: Source = SOURCES[table.name]
        named = [column.name for column in source.key]
        # Of a message there are many rows, which begin with what it is known by.
        assert named in (list(table.key)[: len(named)], ["id"]), table.name
