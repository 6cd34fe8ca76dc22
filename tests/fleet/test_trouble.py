"""A server that cannot work says so, with what to do: a database that another program holds, a disk that is full."""

import contextlib
import sqlite3
import time

import pytest
from typer.testing import CliRunner

from fleet import db
from fleet.client.cli import app
from modules.protocol.topics import PREFIX
from tests.doubles.publisher import checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import HOST, Broker, free_port

WITHIN_S = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server without a broker, which nothing here needs, and with nothing to do."""
    data = initialise(tmp_path_factory.mktemp("trouble") / "data")
    absent = Broker(HOST, free_port(), free_port(), PREFIX, None)
    with fleet_server(data, absent, tick_s="3600") as running:
        yield running


def health(http, status):
    """What /healthz says once it has this status."""
    deadline = time.monotonic() + WITHIN_S
    while (answer := http.get("/healthz")).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    return answer.json()


@contextlib.contextmanager
def held(path):
    """Another program in the middle of a long transaction."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_locked_database_is_told_before_somebody_needs_it(server, monkeypatch, tmp_path):
    """An idle server whose database is held says so within seconds, to whoever asks, and says when it is over."""
    for name, value in (("URL", server.url), ("TOKEN", server.token), ("CA", server.data.ca), ("HOME", tmp_path)):
        monkeypatch.setenv(f"EDGEFLEET_{name}", str(value))
    with server.client() as http:
        health(http, 200)
        with held(server.data.database):
            said = health(http, 503)["detail"]
            status = CliRunner().invoke(app, ["status"])
            refused = http.post("/api/v1/models/acme/any/versions")
        health(http, 200)
        checked(http.post("/api/v1/models/acme/any/versions"))

    for words in (said, status.output, refused.json()["detail"]):
        assert "locked by another program" in " ".join(words.split())
    assert "end that program" in said
    assert (status.exit_code, refused.status_code) == (1, 503)


def test_a_disk_without_room_is_trouble(tmp_path, monkeypatch):
    """Below four MiB the next transaction may fail, so the server says what to do before it does."""
    assert db.disk_trouble(tmp_path) == ""
    monkeypatch.setattr(db, "LEAST_FREE", 1 << 60)
    assert db.disk_trouble(tmp_path) == f"the disk of {tmp_path} is full: free disk space on the server"
