"""``edgefleet overview`` and the filters of ``edgefleet devices list``, through a real server."""

import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from fleet.client.cli import app
from fleet.db import Database
from fleet.tables import devices

BLANK = {"certificate": "", "public_key": "", "enrolled": 1.0, "boot": 1, "facts_number": 0, "report_number": 0}
BLANK |= {"order_counter": 0, "order_published": 0}


@pytest.fixture(scope="module")
def server(server):
    """One device that is here, one that does not stay up, and one that has long been away."""
    rows = [
        {"id": "press-1", "labels": {"site": "berlin"}, "online": True, "last_seen": 30.0, "health": ""},
        {"id": "press-2", "labels": {"site": "berlin"}, "online": True, "last_seen": 20.0, "health": "degraded"},
        {"id": "press-3", "labels": {"site": "lyon"}, "online": False, "last_seen": 10.0, "health": ""},
    ]
    database = Database.at(server.data.database)
    with database.write() as connection:
        connection.execute(insert(devices), [BLANK | row for row in rows])
    database.close()
    return server


def test_the_overview_says_what_needs_somebody_and_what_to_type(run):
    """As a document, and as words: each trouble, and below it the command that leads there."""
    found = run("overview", "--json")
    assert {one["kind"] for one in found["attention"]} >= {"degraded", "offline"}
    assert (found["devices"]["online"], found["devices"]["degraded"], found["devices"]["offline"]) == (1, 1, 1)
    said = CliRunner().invoke(app, ["overview"], env={"COLUMNS": "200"}).output
    assert "!! press-2 has a module that will not stay up" in said
    assert "edgefleet devices show press-2" in said
    assert " ! press-3 has been offline for more than a day (since 1970-01-01" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["press-1", "press-2", "press-3"]),
        (("--state", "online", "--state", "offline"), ["press-1", "press-3"]),
        (("--selector", "site=berlin", "--sort", "last_seen"), ["press-2", "press-1"]),
        (("--search", "lyon"), ["press-3"]),
        (("--limit", "1"), ["press-1"]),
    ],
)
def test_devices_are_listed_as_asked(run, words, expected):
    """Filters hold together; the first of them with a limit."""
    assert [one["id"] for one in run("devices", "list", *words, "--json")] == expected


def test_the_pages_of_the_api_lead_to_each_other(server):
    """By the header, whose address asks for the same; a wrong order is refused."""
    with server.client() as http:
        first = http.get("/api/v1/devices?limit=2&sort=-last_seen&search=press")
        assert ([one["id"] for one in first.json()], first.headers["edgefleet-total"]) == (["press-1", "press-2"], "3")
        assert [one["state"] for one in first.json()] == ["online", "degraded"]
        rest = http.get(first.links["next"]["url"])
        assert ([one["id"] for one in rest.json()], "link" in rest.headers) == (["press-3"], False)
        for wrong in ("sort=size", "limit=501", "state=happy", "selector=site", "sort=last_seen&after=x"):
            assert http.get(f"/api/v1/devices?{wrong}").status_code in {400, 422}, wrong
