"""Commands over HTTP: what a body may say, who may do what, pages, and results that no browser shows."""

import asyncio
import json
import shutil
import time

import httpx
import pytest
from sqlalchemy import select

from fleet import tokens
from fleet.app import create_app
from fleet.command_tables import commands
from fleet.commands import following
from fleet.folder import Folder
from fleet.people import roles
from fleet.people.roles import PERMISSIONS
from fleet.settings import Settings
from modules.protocol.commands import LONGEST_LIFE_S, Command
from tests.doubles.fleet_rows import SmallFleet
from tests.parts.mosquitto import free_port

ROLES = {
    "all": PERMISSIONS,
    "no logs": PERMISSIONS - {"log:read"},
    "gives": frozenset({"command:write"}),
    "looks": frozenset({"command:read"}),
}


@pytest.fixture
async def asked(tmp_path, monkeypatch, initialised):
    """An application with two devices; asks it as a role."""
    folder = Folder(shutil.copytree(initialised, tmp_path / "data"))
    monkeypatch.setattr(roles, "ROLES", ROLES)
    application = create_app(Settings(data=folder.root, broker_host="127.0.0.1", broker_service_port=free_port()))
    transport = httpx.ASGITransport(application)
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=transport, base_url="https://localhost/api/v1/") as http,
    ):
        duties = {"blocks-3", "commands", "broadcasts-sort"}
        # It leads a moment after its start; the tasks of its duties are this fixture's, not the test's.
        while not duties <= {one.get_name() for one in asyncio.all_tasks()}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        database = application.state.services.database
        fleet = SmallFleet(tmp_path, database)
        fleet.add_device("dev-a")
        fleet.add_device("dev-b")
        with database.write() as connection:
            held = {role: tokens.create(connection, time.time(), kind="api", role=role) for role in ROLES}

        async def ask(method, path, role="all", **more):
            bearer = {"Authorization": f"Bearer {held[role]}", "Content-Type": "application/json"}
            return await http.request(method, path, headers=bearer, **more)

        ask.fleet = fleet
        yield ask


async def given(ask, **body):
    answer = await ask("POST", "commands", json={"name": "ping", "device": "dev-a"} | body)
    assert answer.status_code == 201, answer.text
    return answer.json()["commands"][0]["id"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "ping"},
        {"name": "ping", "device": "dev-a", "selector": "*"},
        {"name": "ping", "device": "../dev"},
        {"name": "ping", "device": "dev-a", "expires_s": 0},
        {"name": "ping", "device": "dev-a", "expires_s": LONGEST_LIFE_S + 1},
        {"name": "ping", "device": "dev-a", "arguments": {"lines": "many"}},
        {"name": "ping", "device": "dev-a", "arguments": dict.fromkeys("abcdefghijklmnopq", 1)},
        {"name": "ping", "device": "dev-a", "id": "0" * 32},
        {"name": "p" * 101, "device": "dev-a"},
        {"name": "\ud800", "device": "dev-a"},
        {"name": "format-disk", "device": "dev-a"},
        {"name": "decommission", "selector": "*"},
    ],
)
async def test_what_makes_no_sense_is_refused(asked, body):
    """422 with a problem document, and nothing is given."""
    answer = await asked("POST", "commands", content=json.dumps(body))
    assert answer.status_code == 422, answer.text
    assert (await asked("GET", "commands")).json() == []


async def test_who_would_get_it_can_be_asked_first(asked):
    """By whoever may give it; nothing is given by that, and what is asked is what is given."""
    body = {"name": "ping", "devices": ["dev-b", "dev-z"]}
    answer = await asked("POST", "commands/preview", "gives", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["devices"], found["offline"]) == (["dev-b"], ["dev-b"])
    assert [one["device"] for one in found["misfits"]] == ["dev-z"]
    assert (await asked("GET", "commands")).json() == []
    assert (await asked("POST", "commands/preview", "looks", json=body)).status_code == 403
    given = (await asked("POST", "commands", "gives", json=body)).json()
    assert [one["device"] for one in given["commands"]] == ["dev-b"]
    assert given["misfits"] == found["misfits"]


async def test_who_may_give_may_not_wipe(asked):
    """Wiping a device takes the right to take devices out, besides."""
    body = {"name": "decommission", "device": "dev-a"}
    refused = await asked("POST", "commands", "gives", json=body)
    assert (refused.status_code, refused.json()["element"]) == (403, "device:write")
    assert (await asked("POST", "commands", "gives", json=body | {"name": "ping"})).status_code == 201
    assert (await asked("POST", "commands", "all", json=body)).status_code == 201


async def test_who_may_look_sees_no_results(asked):
    """Results may be log lines: they take a right of their own."""
    ident = await given(asked)
    for role, code in (("looks", 403), ("no logs", 403), ("all", 200)):
        assert (await asked("GET", f"commands/{ident}/result", role)).status_code == code
    shown = await asked("GET", f"commands/{ident}", "looks")
    assert shown.status_code == 200
    assert (await asked("DELETE", f"commands/{ident}", "looks")).status_code == 403
    assert "envelope" not in shown.json()


@pytest.mark.parametrize(
    ("content", "served", "ending"),
    [
        ("text/html", "application/octet-stream", "bin"),
        ("image/svg+xml", "application/octet-stream", "bin"),
        ("text/plain\r\nX-Evil: 1", "application/octet-stream", "bin"),
        ("text/plain; charset=utf-7", "text/plain; charset=utf-8", "txt"),
        ("application/json", "application/json", "json"),
        ("", "application/octet-stream", "bin"),
    ],
)
async def test_what_a_device_sends_is_no_page(asked, content, served, ending):
    """It is an attachment under the server's own name for it, of a short list of kinds, and nothing in it may run."""
    ident = await given(asked, name="diagnose")
    fleet = asked.fleet
    with fleet.database.read() as connection:
        row = connection.execute(select(commands).where(commands.c.id == ident)).one()
    command = Command(id=ident, device="dev-a", name="diagnose", issued=row.issued, expires=row.expires)
    part = fleet.answer(command, 1, "done", data=b"<script>alert(1)</script>", content=content)
    fleet.ingest.commit([part])
    answer = await asked("GET", f"commands/{ident}/result")
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == served
    assert answer.headers["content-disposition"] == f'attachment; filename="dev-a-diagnose-{ident[:8]}.{ending}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "x-evil" not in answer.headers


async def test_commands_come_in_pages_and_by_what_they_are(asked):
    """The newest first; each filter alone and together."""
    every = [await given(asked, device=device) for device in ("dev-a", "dev-b", "dev-a")][::-1]
    assert [one["id"] for one in (await asked("GET", "commands")).json()] == every
    first = (await asked("GET", "commands?limit=2")).json()
    assert [one["id"] for one in first] == every[:2]
    rest = (await asked("GET", f"commands?limit=2&before={first[-1]['number']}")).json()
    assert [one["id"] for one in rest] == every[2:]
    await asked("DELETE", f"commands/{every[0]}")
    for filters, found in (
        ("device=dev-a", [every[0], every[2]]),
        ("device=dev-a&state=cancelled", [every[0]]),
        ("state=cancelled&state=waiting", every),
        ("name=logs", []),
        (f"batch={first[1]['batch']}", [every[1]]),
    ):
        assert [one["id"] for one in (await asked("GET", f"commands?{filters}")).json()] == found, filters
    for wrong in ("device=..", "state=lost", "limit=0", "limit=1001", "before=0"):
        assert (await asked("GET", f"commands?{wrong}")).status_code == 422, wrong


@pytest.mark.parametrize("ident", ["none", "0" * 32, "%27%20or%201=1", "x" * 500])
async def test_what_is_not_there_is_missing(asked, ident):
    for method, path in (("GET", ident), ("GET", f"{ident}?wait_s=5"), ("GET", f"{ident}/result"), ("DELETE", ident)):
        answer = await asked(method, f"commands/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "missing")


async def test_no_more_wait_than_there_is_room_for(asked, monkeypatch):
    """A further request is answered at once."""
    monkeypatch.setattr(following, "AT_MOST", 0)
    ident = await given(asked)
    began = time.monotonic()
    assert (await asked("GET", f"commands/{ident}?wait_s=30")).json()["answers"] == 0
    assert time.monotonic() - began < 10
    assert (await asked("GET", f"commands/{ident}?wait_s=31")).status_code == 422
