"""The database: migrations and transactions."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, insert, select, update

from fleet.db import Database, configuration
from fleet.schema import complete
from fleet.tables import devices, events, members, slot_revisions, slots, tuf_metadata


def count(database):
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(events)).scalar_one()


def add(connection):
    connection.execute(insert(events).values(at=0.0, kind="test", message=""))


def drift(connection):
    """What differs between the tables and the database; an index that is SQLite's alone is nowhere else."""

    def here(_thing, name, kind, *_more):
        return connection.dialect.name == "sqlite" or (kind, name) != ("index", "ix_devices_listed")

    return compare_metadata(MigrationContext.configure(connection, opts={"include_object": here}), complete())


def test_the_migrations_make_exactly_the_tables(database):
    """Tables and revisions cannot drift apart."""
    with database.read() as connection:
        assert drift(connection) == []


def test_migrating_again_changes_nothing(database):
    """Every start migrates."""
    with database.write() as connection:
        add(connection)
    database.migrate()
    assert count(database) == 1


def test_a_database_of_the_first_release_keeps_what_it_knows(tmp_path):
    """What each slot was told to run becomes its first revision, and the members refer to it."""
    old = Database.at(tmp_path / "old.sqlite")
    with old.engine.connect() as connection:
        command.upgrade(configuration(connection), "0001")
    with old.write() as connection:
        for statement in (
            (
                "INSERT INTO devices (id, labels, certificate, public_key, enrolled, online, boot, facts_number,"
                " report_number, order_counter, order_published) VALUES ('dev-a', '{}', '', '', 0, 1, 7, 3, 9, 2, 2)"
            ),
            (
                "INSERT INTO rollouts (id, module, slot, state, wave, waves, policy, document, waive, misfits, created)"
                " VALUES (4, 'acme/digits:1', 'digits', 'running', 1, 1, '{}', 'old', 0, '[]', 17.0)"
            ),
            "INSERT INTO slots (device, slot, rollout, document) VALUES ('dev-a', 'digits', 4, 'old')",
            (
                "INSERT INTO members (rollout, device, slot, digest, wave, current, counter, phase)"
                " VALUES (4, 'dev-a', 'digits', 'd', 1, 1, 2, 'fetching')"
            ),
        ):
            connection.exec_driver_sql(statement)

    old.migrate()
    with old.read() as connection:
        assert drift(connection) == []
        [revision] = connection.execute(select(slot_revisions))
        assert tuple(revision) == ("dev-a", "digits", 1, "old", 4, 17.0, "")
        assert connection.execute(select(slots.c.revision, slots.c.waiver)).all() == [(1, None)]
        assert connection.execute(select(members.c.revision, members.c.phase)).all() == [(1, "fetching")]
        assert connection.execute(select(devices.c.report_number, devices.c.epoch)).all() == [(9, "")]
    old.close()


def test_a_transaction_that_fails_leaves_nothing(database):
    """All or none."""

    def fail():
        with database.write() as connection:
            add(connection)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert count(database) == 0


def test_writers_wait_for_each_other_and_lose_nothing(database):
    """Read, then write, in many threads: every step is counted."""
    with database.write() as connection:
        connection.execute(insert(tuf_metadata).values(role="counter", version=0, data=b""))

    def step(_):
        with database.write() as connection:
            version = connection.execute(select(tuf_metadata.c.version)).scalar_one()
            connection.execute(update(tuf_metadata).values(version=version + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(step, range(40)))
    with database.read() as connection:
        assert connection.execute(select(tuf_metadata.c.version)).scalar_one() == 40


def test_a_commit_is_durable_by_configuration(tmp_path):
    """WAL with full syncs: an acknowledgement to a device is a promise about the disk."""
    database = Database.at(tmp_path / "fleet.sqlite")
    with database.read() as connection:
        pragmas = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in (
            "journal_mode", "synchronous", "foreign_keys",
        )}  # fmt: skip
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_folder_name_with_a_percent_sign_is_no_trouble(tmp_path):
    """Paths are data, whatever the configuration's own syntax."""
    (tmp_path / "50% full").mkdir()
    made = Database.at(tmp_path / "50% full" / "fleet.sqlite")
    made.migrate()
    assert count(made) == 0
    made.close()


def test_what_devices_reported_before_says_how_they_are(tmp_path):
    """A device that was degraded before its server was replaced is so afterwards, without a new report."""
    old = Database.at(tmp_path / "old.sqlite")
    with old.engine.connect() as connection:
        command.upgrade(configuration(connection), "0022")
    said = {
        "worse": '{"slots": [{"phase": "committed", "current": {"state": "degraded"}}, {"phase": "fetching"}]}',
        "busy": '{"slots": [{"phase": "fetching", "current": null}]}',
        "well": '{"slots": [{"phase": "committed", "current": {"state": "up"}}]}',
        "new": None,
    }
    with old.write() as connection:
        for name, report in said.items():
            connection.exec_driver_sql(
                "INSERT INTO devices (id, labels, certificate, public_key, enrolled, online, boot, facts_number,"
                " report_number, report, order_counter, order_published)"
                " VALUES (?, '{}', '', '', 0, 1, 0, 0, 0, ?, 0, 0)",
                (name, report and report.encode()),
            )
    old.migrate()
    with old.read() as connection:
        found = {row.id: row.health for row in connection.execute(select(devices.c.id, devices.c.health))}
    old.close()
    assert found == {"worse": "degraded", "busy": "updating", "well": "", "new": ""}
