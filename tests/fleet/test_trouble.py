"""A server that cannot work says so, with what to do: a database that another program holds, a disk that is full."""

import asyncio
import contextlib
import errno
import os
import sqlite3
import time

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from fleet import background, db, errors
from fleet.background import Background
from fleet.client.cli import app
from fleet.mishaps import Mishaps
from modules.protocol.topics import PREFIX
from tests.doubles.publisher import checked
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import HOST, Broker, free_port
from tests.parts.pace import stretched

WITHIN_S = stretched(30)


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


@pytest.mark.long
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


async def test_what_only_reads_ends_no_trouble_of_what_writes(monkeypatch):
    """A database that is held can be read: it is told all the while, until a write is done."""
    monkeypatch.setattr(background, "RETRY_S", 0.01)
    duties, is_held = Background.__new__(Background), True
    duties._mishaps, duties._failing = Mishaps(time.time), set()

    def write():
        if is_held:
            raise OperationalError("BEGIN", None, Exception("database is locked"))

    writing = asyncio.create_task(duties._lasting(write))
    async with asyncio.timeout(stretched(5)):
        while not duties._mishaps.trouble:  # noqa: ASYNC110 - a thread brings it about
            await asyncio.sleep(0.01)
    await duties._lasting(lambda: None)
    assert "locked by another program" in duties._mishaps.trouble
    is_held = False
    await writing
    assert duties._mishaps.trouble == ""


@pytest.mark.parametrize(
    ("number", "status", "says"),
    [
        (errno.ENOSPC, 503, "free disk space"),
        (errno.EDQUOT, 503, "raise the quota"),
        (errno.EROFS, 503, "mount the server's disk"),
        (errno.EIO, 503, "look at the server's disk"),
        (errno.ENOENT, 500, ""),
    ],
)
async def test_what_the_disk_refuses_is_said_as_such(number, status, says):
    """An upload that meets a full disk is told so, with what to do; another failure is a defect, as before."""

    async def upload():
        raise OSError(number, os.strerror(number))

    served = FastAPI()
    errors.install(served)
    served.put("/upload")(upload)
    transport = httpx.ASGITransport(served, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fleet") as http:
        answer = await http.put("/upload")
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert says in answer.json()["remedy"]


def test_a_disk_without_room_is_trouble(tmp_path, monkeypatch):
    """Below four MiB the next transaction may fail, so the server says what to do before it does."""
    assert db.disk_trouble(tmp_path) == ""
    monkeypatch.setattr(db, "LEAST_FREE", 1 << 60)
    assert db.disk_trouble(tmp_path) == f"the disk of {tmp_path} is full: free disk space on the server"
