"""A fleet in PostgreSQL: the same promises, and plain words for what only a database server can do wrong."""

import subprocess
import sys
import time

import psycopg
import pytest
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from fleet.db import Database, in_words
from fleet.folder import Folder
from fleet.setup import initialise
from fleet.tables import events
from modules.errors import BadSettings, Invalid
from modules.protocol.topics import PREFIX
from tests.fleet.test_db import drift
from tests.house.installed import foreign
from tests.parts.fleet_server import STARTS_WITHIN_S, fleet_server
from tests.parts.fleet_server import initialise as fleet_init
from tests.parts.mosquitto import HOST, Broker, free_port
from tests.parts.postgres import PASSWORD, USER, postgres
from tests.parts.programs import CommandFailed, run
from tests.parts.warm import ROOT

pytestmark = pytest.mark.needs("postgres")


@pytest.fixture
def rows(cluster, tmp_path):
    made = Database.of(cluster.shared(), tmp_path)
    yield made
    made.close()


def add(connection, message=""):
    connection.execute(insert(events).values(at=0.0, kind="test", message=message))


def count(connection):
    return connection.execute(select(func.count()).select_from(events)).scalar_one()


def words(url, tmp_path):
    """What the operator reads of a database that does not answer."""
    database = Database.of(url, tmp_path)
    with pytest.raises(SQLAlchemyError) as caught, database.write() as connection:
        add(connection)
    database.close()
    assert PASSWORD not in str(caught.value)
    return in_words(caught.value)


def test_a_reader_sees_one_state(rows):
    """What is committed meanwhile is not seen half way through, and a reader writes nothing."""
    with rows.read() as reader:
        assert count(reader) == 0
        with rows.write() as connection:
            add(connection)
        assert count(reader) == 0
    with rows.read() as reader:
        assert count(reader) == 1
        with pytest.raises(OperationalError) as caught:
            add(reader)
    assert "read-only" in in_words(caught.value)


@pytest.mark.long
def test_a_writer_who_waits_too_long_is_told_by_whom(rows):
    """Five seconds, as on SQLite; whoever waited can write when the other one has ended."""
    with rows.write() as connection:
        add(connection)
        began = time.monotonic()
        with pytest.raises(OperationalError) as caught:
            rows.try_writing()
        assert time.monotonic() - began > 4
    assert in_words(caught.value).startswith("the database is locked by another program")
    rows.try_writing()


def test_a_commit_is_durable_whatever_this_server_does_for_others(cluster, tmp_path):
    """An acknowledgement to a device is a promise about the disk."""
    url = cluster.new()
    cluster.sql(f"ALTER DATABASE {url.rpartition('/')[2]} SET synchronous_commit = off")
    database = Database.of(url, tmp_path)
    with database.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
    database.close()


def test_two_servers_migrate_a_new_database_at_once(cluster, tmp_path):
    """One does it and the other waits; the tables are exactly those of the code."""
    url = cluster.new()
    code = "import sys; from fleet.db import Database; Database.of(*sys.argv[1:]).migrate()"
    servers = [subprocess.Popen([sys.executable, "-c", code, url, ""], cwd=ROOT) for _ in range(3)]
    assert [server.wait(STARTS_WITHIN_S) for server in servers] == [0, 0, 0]
    database = Database.of(url, tmp_path)
    with database.read() as connection:
        assert drift(connection) == []
    database.close()


def test_a_connection_that_broke_is_replaced(rows, cluster):
    """A database that was started again costs no request."""
    with rows.read() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    cluster.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
    with rows.read() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != pid


def test_a_text_that_no_row_holds_is_the_senders_mistake(rows):
    """PostgreSQL takes no NUL: it is refused, not a failure of the server."""
    with pytest.raises(Invalid, match="NUL"), rows.write() as connection:
        add(connection, "a\0b")


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("fleet_no", {}, "the database is not there"),
        ("postgres", {"password": "wrong-water"}, "refuses the user or its password"),
        ("postgres", {"user": "nobody-known"}, "refuses the user or its password"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words_without_the_password(cluster, tmp_path, name, changed, said):
    """A database that is not there, a wrong password, an unknown user."""
    assert said in words(cluster.url(name, **changed), tmp_path)


def test_a_server_that_is_away_is_said_so(tmp_path):
    """Nobody listens there."""
    said = words(f"postgresql://{USER}:{PASSWORD}@{HOST}:{free_port()}/fleet", tmp_path)
    assert said.startswith("PostgreSQL cannot be reached")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (psycopg.errors.DiskFull("kein Platz"), "the database's disk is full (kein Platz)"),
        (psycopg.errors.TooManyConnections("zu viele"), "PostgreSQL has no connection left"),
        (psycopg.errors.CannotConnectNow("fährt hoch"), "PostgreSQL cannot be reached"),
    ],
)
def test_its_code_says_what_is_wrong_whatever_language_it_speaks(error, said):
    """PostgreSQL's messages follow the language of its machine; its codes do not."""
    assert in_words(OperationalError("INSERT", None, error)).startswith(said)


def health(http, status):
    """What /healthz says once it has this status."""
    ends = time.monotonic() + STARTS_WITHIN_S
    while (answer := http.get("/healthz")).status_code != status or not answer.json().get("leader", True):
        assert time.monotonic() < ends, answer.text
        time.sleep(0.1)
    return answer.json()


@pytest.mark.long
def test_a_database_that_is_away_is_told_and_nothing_has_to_be_started_again(tmp_path):
    """503 with the reason while it is away; when it is back the server leads again by itself."""
    with postgres() as own:
        url = own.new()
        data = fleet_init(tmp_path / "data", url)
        absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
        with fleet_server(data, absent, database=url) as server, server.client() as http:
            health(http, 200)
            own.stop()
            assert "PostgreSQL cannot be reached" in health(http, 503)["detail"]
            own.start()
            health(http, 200)
            assert http.get("/api/v1/devices").status_code == 200
        assert PASSWORD not in server.log()


def test_rights_that_are_missing_are_said_so(cluster, tmp_path):
    """A user who may not write: it is the database's trouble, tried again until somebody grants it."""
    url = cluster.new()
    owner = Database.of(url, tmp_path)
    owner.migrate()
    owner.close()
    cluster.sql(f"CREATE USER guest PASSWORD '{PASSWORD}'")
    said = words(cluster.url(url.rpartition("/")[2], user="guest"), tmp_path)
    assert said.startswith("the database refuses it")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:secret@h/d", "only PostgreSQL"),
        ("postgres://u:secret@h/d", "only PostgreSQL"),
        ("postgresql://u:secret@h:port/d", "not an address"),
    ],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(tmp_path, url, said):
    """The secret in it stays out of the message."""
    with pytest.raises(BadSettings, match=said) as caught:
        Database.of(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_says_what_to_install(tmp_path):
    """SQLite alone needs none, so it is an extra."""
    without = "import sys, fleet.__main__; sys.modules['psycopg'] = None"
    code = f"{without}; fleet.__main__.main(['init', '--data', sys.argv[1]])"
    environment = {"EDGEFLEET_FLEET_DATABASE": "postgresql://u:secret@h/d", "PATH": "/usr/bin"}
    command = [sys.executable, "-c", code, tmp_path / "d"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "pip install 'edgefleet[postgres]'" in done.stderr
    assert "secret" not in done.stderr
    assert "psycopg" in foreign("fleet")


@pytest.mark.long
def test_the_commands_work_with_it(cluster, tmp_path):
    """init makes a fleet in an empty database, once; token finds it; none of them makes an SQLite file."""
    url = cluster.new()
    environment = {"EDGEFLEET_FLEET_DATABASE": url}
    run("fleet", "init", "--data", tmp_path / "a", environment=environment)
    assert len(run("fleet", "token", "--data", tmp_path / "a", environment=environment).strip()) > 20
    assert not (tmp_path / "a" / "fleet.sqlite").exists()

    with pytest.raises(CommandFailed, match="holds a fleet already"):
        run("fleet", "init", "--data", tmp_path / "b", environment=environment)
    assert not (tmp_path / "b").exists()
    with pytest.raises(CommandFailed, match="no fleet in this database"):
        run("fleet", "token", "--data", tmp_path / "a", environment={"EDGEFLEET_FLEET_DATABASE": cluster.new()})
    wrong = {"EDGEFLEET_FLEET_DATABASE": url.replace(PASSWORD, "wrong-water")}
    with pytest.raises(CommandFailed, match="refuses the user or its password") as caught:
        run("fleet", "serve", "--data", tmp_path / "a", environment=wrong)
    assert "wrong-water" not in str(caught.value)


@pytest.mark.long
def test_a_database_that_sorts_by_a_language_is_refused(cluster, tmp_path):
    """Pages of devices go by the bytes of their names, as on SQLite."""
    cluster.sql("CREATE DATABASE german TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'")
    with pytest.raises(BadSettings, match="sorts names by a language"):
        initialise(Folder(tmp_path / "data"), time.time, database=cluster.url("german"))
    assert not (tmp_path / "data").exists()
