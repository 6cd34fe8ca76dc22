"""A real server with the console, an operator of it, and a real browser."""

import time
from contextlib import contextmanager

import pytest

from fleet.people import operators, passwords
from fleet.people.roles import Grant
from fleet.settings import Settings
from fleet.setup import opened
from tests.doubles.publisher import checked
from tests.parts.browser import browser
from tests.parts.fleet_server import fleet_server, initialise
from tests.parts.mosquitto import broker
from tests.screenshots import cloud
from tests.screenshots.showcase import Showcase

PASSWORD = "correct horse battery staple 9"


def person(data, name, *roles):
    """Add an operator to a server's data folder; each role by its name, or as a grant that is bounded."""
    database = opened(Settings(data=data.root))
    hashed = passwords.Passwords().hashed(PASSWORD)
    with database.write() as connection:
        row = operators.add(
            connection,
            time.time(),
            name,
            [Grant(one) if isinstance(one, str) else one for one in roles],
            password=hashed,
            by="tests",
        )
        operators.set_password(connection, time.time(), operators.get(connection, name), hashed, given=False, by=name)
    database.close()
    return row


@contextmanager
def as_person(server, name):
    """The API as a person has it after logging in."""
    with server.client("none") as http:
        del http.headers["Authorization"]
        said = checked(http.post("/api/v1/session", json={"user": name, "password": PASSWORD})).json()
        http.headers["X-Edgefleet-Csrf"] = said["csrf"]
        http.headers["Origin"] = server.url
        yield http


@pytest.fixture(scope="module")
def chromium():
    """Ends with its file: Playwright holds the thread's event loop, and no other test could run one."""
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A running server that nobody has used yet, with an admin named admin."""
    folder = tmp_path_factory.mktemp("console")
    data = initialise(folder / "data")
    person(data, "admin", "admin")
    with broker(folder / "broker", data) as running, fleet_server(data, running, console="true") as started:
        yield started


@pytest.fixture(scope="module")
def showcase(server):
    """The same server with one of each thing in it, and what of it stands in the addresses of pages."""
    with as_person(server, "admin") as http, cloud.cluster() as lab:
        yield server, Showcase(server, http, lab).make()
