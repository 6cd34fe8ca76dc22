"""One real broker and one real server for the tests of this folder that ask for them."""

import shutil

import pytest

from fleet.db import Database
from tests.doubles.fleet_rows import SmallFleet
from tests.doubles.publisher import Publisher
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.parts.postgres import postgres

# Most of what is written at once, and by several, passes through these.
ON_BOTH = {"test_ingest.py", "test_leader.py", "test_sent_again.py"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """A running server with its broker, trust founded."""
    folder = tmp_path_factory.mktemp("fleet")
    data = initialise(folder / "data")
    with broker(folder / "broker", data) as running, fleet_server(data, running) as server, server.client() as http:
        owner = Publisher(http)
        owner.found()
        yield server, http, owner


@pytest.fixture(scope="session")
def cluster():
    """A PostgreSQL for this process's tests."""
    with postgres() as running:
        yield running


@pytest.fixture(scope="session")
def newest(tmp_path_factory):
    """A SQLite file with the newest tables and no rows, to be copied: the migrations take as long as most tests."""
    file = tmp_path_factory.mktemp("newest") / "fleet.sqlite"
    made = Database.at(file)
    made.migrate()
    made.close()
    return file


@pytest.fixture(scope="session")
def initialised(tmp_path_factory):
    """A data folder as ``fleet init`` makes it, to be copied: its tables take longer than most tests.

    Its copies have one CA and one operator's token: for tests of one server alone.
    """
    return initialise(tmp_path_factory.mktemp("initialised") / "data").root


def pytest_collection_modifyitems(items):
    """What is not about the database itself is tried on PostgreSQL by the long tests."""
    for item in items:
        on = getattr(item, "callspec", None) and item.callspec.params.get("database")
        if on == "postgresql" and item.path.name not in ON_BOTH:
            item.add_marker(pytest.mark.long)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def database(request, tmp_path):
    """An empty database with the newest tables, once in SQLite and once in PostgreSQL."""
    url = request.getfixturevalue("cluster").shared() if request.param == "postgresql" else ""
    if not url:
        shutil.copyfile(request.getfixturevalue("newest"), tmp_path / "fleet.sqlite")
    made = Database.of(url, tmp_path / "fleet.sqlite")
    yield made
    made.close()


@pytest.fixture
def small_fleet(tmp_path, database):
    """Devices, a signed module and orders without a network: the rows that rollouts and ingest work on."""
    return SmallFleet(tmp_path, database)
