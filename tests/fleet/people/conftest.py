"""A server's application with one admin, over SQLite and PostgreSQL, whose clock a test moves."""

import gc
import shutil
import time

import psycopg
import pytest
from sqlalchemy import select

from fleet import setup
from fleet.db import Database
from fleet.folder import Folder
from fleet.people import operators
from fleet.people.roles import Grant
from fleet.tables import events
from tests.parts.application import CHEAP, application

ADMIN = "anna"
PASSWORD = "turquoise walrus 7 lantern"


class House:
    """A running application: ask it, as an admin unless said, look into its database, move its clock."""

    def __init__(self, folder, database):
        self.folder, self.database = folder, database
        self.now = time.time()
        self.token = folder.operator_token.read_text().strip()

    def clock(self):
        return self.now

    def add(self, name, *grants, password=PASSWORD):
        """An operator who has chosen a password."""
        hashed = CHEAP.hashed(password)
        with self.database.write() as connection:
            operators.add(connection, self.now, name, grants or [Grant("admin")], password=hashed)
            row = operators.get(connection, name)
            operators.set_password(connection, self.now, row, hashed, given=False)

    async def ask(self, method, path, token=None, **more):
        """As whoever has the token; the operator's token of the server without one."""
        self.http.cookies.clear()
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"} | more.pop("headers", {})
        return await self.http.request(method, path, headers=headers, **more)

    async def log_in(self, name=ADMIN, password=PASSWORD):
        """The answer to a log-in; the client keeps the cookie."""
        self.http.cookies.clear()
        return await self.http.post("/api/v1/session", json={"user": name, "password": password})

    def events(self, kind):
        with self.database.read() as connection:
            rows = connection.execute(select(events).where(events.c.kind == kind).order_by(events.c.id))
            return [(row.message, row.by) for row in rows]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.needs("postgres"), pytest.mark.long])])
def made(request, tmp_path):
    """A house without its application, and what the application has to be told of its database."""
    folder = Folder(tmp_path / "data")
    url = request.getfixturevalue("cluster").new() if request.param == "postgresql" else ""
    if url:
        setup.initialise(folder, time.time, database=url)
    else:
        shutil.copytree(request.getfixturevalue("initialised"), folder.root)
    database = Database.of(url, folder.database)
    yield House(folder, database), {"database": url} if url else {}
    database.close()
    if url:
        _close_connections(url.rpartition("/")[2])


@pytest.fixture
def passwords():
    """What the application hashes with: cheaply, unless a test says otherwise."""
    return CHEAP


@pytest.fixture
async def house(made, passwords):
    found, settings = made
    found.add(ADMIN)
    async with application(found.folder, found.clock, passwords=passwords, **settings) as http:
        found.http = http
        yield found


def _close_connections(database):
    """Those that a thread gave back to a pool which the server had closed: its process would have ended with them."""
    for one in gc.get_objects():
        if type(one) is psycopg.Connection and not one.closed and one.info.dbname == database:
            one.close()


def refused(answer, status, code):
    """The refusal's document."""
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert document["code"] == code
    return document


@pytest.fixture(name="refused")
def refused_fixture():
    return refused
