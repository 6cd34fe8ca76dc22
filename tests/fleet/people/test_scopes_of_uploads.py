"""What was uploaded for another team does not exist: not listed, not read, not replaced, not removed."""

import pytest

from fleet import tokens
from fleet.people import roles
from fleet.people.roles import ROLES, Grant
from modules.digests import sha256
from tests.parts.api_routes import api_routes

FOREIGN = b"what only quagga brought"
MINE = b"what acme brought"
BOTH = b"what both brought"
PLACES = [(method, route.path) for route in api_routes() if "/uploads/{team}" in route.path for method in route.methods]


@pytest.fixture
async def acme(house):
    """Uploads of two teams, and a token of every role that holds for acme alone."""
    grants = roles.plain(tuple(Grant(role, teams=("acme",)) for role in sorted(ROLES)))
    with house.database.write() as connection:
        house.scoped = tokens.create(connection, house.now, kind="api", role="", name="acme", roles=grants)
    for team, data in (("quagga", FOREIGN), ("quagga", BOTH), ("acme", BOTH), ("acme", MINE)):
        assert (await send(house, team, data)).status_code == 201
    return house


async def send(house, team, data, token=None):
    return await house.ask("POST", f"/api/v1/uploads/{team}", token, params={"name": "quagga.onnx"}, content=data)


async def every(house):
    """All uploads and their files, as an admin sees them."""
    found = (await house.ask("GET", "/api/v1/uploads")).json()["uploads"]
    return found, sorted(one.name for one in house.folder.uploads.iterdir())


def place(path, team, data):
    return path.replace("{team}", team).replace("{name}", sha256(data))


async def test_uploads_of_another_team_are_not_listed(acme):
    listed = (await acme.ask("GET", "/api/v1/uploads", acme.scoped)).json()["uploads"]
    assert {(one["team"], one["digest"]) for one in listed} == {("acme", sha256(BOTH)), ("acme", sha256(MINE))}
    assert all(one["by"] != "" for one in listed)


@pytest.mark.parametrize(("method", "path"), PLACES)
async def test_on_every_route_another_team_is_one_that_is_not_there(acme, refused, method, path):
    """With bytes that it has, that both have, and that nobody has: the same answer, and nothing changes."""
    before = await every(acme)
    for data in (FOREIGN, BOTH, b"nobody's"):
        more = {"params": {"name": "x.onnx"}, "content": data} if method == "POST" else {}
        for team in ("quagga", "nobody"):
            answer = await acme.ask(method, place(path, team, data), acme.scoped, **more)
            assert refused(answer, 404, "missing")["detail"] == "there is no such team"
    assert await every(acme) == before


@pytest.mark.parametrize(("method", "path"), [one for one in PLACES if "{name}" in one[1]])
async def test_bytes_of_another_team_are_not_there_under_one_s_own_name(acme, refused, method, path):
    """Whoever learns a digest gets nothing by it; and what both brought stays theirs when one's own is removed."""
    before = await every(acme)
    theirs = await acme.ask(method, place(path, "acme", FOREIGN), acme.scoped)
    absent = await acme.ask(method, place(path, "acme", b"nobody's"), acme.scoped)
    refused(theirs, 404, "missing")
    assert theirs.text.replace(sha256(FOREIGN), sha256(b"nobody's")) == absent.text
    assert await every(acme) == before


async def test_one_s_own_is_there_and_what_two_teams_brought_is_forgotten_by_both_alone(acme):
    for method, path in PLACES:
        if method == "GET":
            assert (await acme.ask("GET", place(path, "acme", BOTH), acme.scoped)).status_code == 200
    assert (await send(acme, "acme", b"more", acme.scoped)).status_code == 201
    assert (await acme.ask("DELETE", f"/api/v1/uploads/acme/{sha256(BOTH)}", acme.scoped)).status_code == 200
    assert (await acme.ask("GET", f"/api/v1/uploads/quagga/{sha256(BOTH)}/file")).content == BOTH
