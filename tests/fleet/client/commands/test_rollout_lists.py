"""Rollouts come in pages, and a list of them is whole however many there are."""

import msgspec
import pytest
from sqlalchemy import insert

from fleet.client import api
from fleet.db import Database
from fleet.tables import rollouts
from modules.protocol.order import SlotOrder


@pytest.fixture
def five(server):
    """The numbers of five rollouts, the newest first."""
    document = msgspec.json.encode(SlotOrder(manifest="m", digest="sha256:" + "0" * 64, engine="process"))
    row = {"module": "acme/digits:1", "slot": "digits", "state": "done", "wave": 1, "waves": 1, "plan": b"[]"}
    row |= {"policy": b"{}", "document": document, "waive": False, "misfits": [], "created": 0.0}
    database = Database.at(server.data.database)
    with database.write() as connection:
        connection.execute(rollouts.delete())
        made = [connection.execute(insert(rollouts).values(**row)).inserted_primary_key[0] for _ in range(5)]
    yield [str(one) for one in made[::-1]]
    database.close()


def test_rollouts_come_in_pages_the_newest_first(server, five):
    """``before`` is the last of the page before; what is no page is refused."""
    with server.client() as http:
        assert [one["id"] for one in http.get("/api/v1/rollouts").json()] == five
        assert [one["id"] for one in http.get("/api/v1/rollouts?limit=2").json()] == five[:2]
        rest = http.get(f"/api/v1/rollouts?limit=4&before={five[1]}").json()
        assert [one["id"] for one in rest] == five[2:]
        assert http.get(f"/api/v1/rollouts?before={five[-1]}").json() == []
        for wrong in ("limit=0", "limit=1001", "before=0", "before=x"):
            assert http.get(f"/api/v1/rollouts?{wrong}").status_code == 422, wrong


@pytest.mark.parametrize("page", [1, 2, 5, 1000])
def test_the_command_lists_all_of_them(run, five, monkeypatch, page):
    """However they fall into pages, each comes once."""
    monkeypatch.setattr(api, "_PAGE", page)
    assert [one["id"] for one in run("rollouts", "list")] == five
