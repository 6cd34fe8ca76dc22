"""Headers that no answer lacks: a browser guesses no type, tells no other site of the page, and keeps nothing."""

import re
import time

import pytest

from fleet import setup
from fleet.auth import public
from fleet.folder import Folder
from modules.digests import sha256
from tests.parts.api_routes import api_routes
from tests.parts.application import application

FIXED = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


@pytest.fixture
async def ask(tmp_path):
    """Asks a real application as its operator, or as nobody."""
    folder = Folder(tmp_path / "data")
    setup.initialise(folder, time.time)
    token = folder.operator_token.read_text().strip()
    async with application(folder, time.time) as http:

        async def answer(method, path, *, known=True, **more):
            headers = {"Authorization": f"Bearer {token}"} if known else {}
            return await http.request(method, path, headers=headers | more.pop("headers", {}), **more)

        yield answer


def lacking(answer):
    return [name for name, value in FIXED.items() if answer.headers.get_list(name) != [value]]


async def test_every_route_s_answers_have_them_whatever_they_are(ask):
    """Granted, refused and wrong ones; and what is said to somebody whom the server knows is kept by no cache."""
    wrong = []
    for route in api_routes():
        place = re.sub(r"{\w+}", "none-1", route.path)
        is_open = public in [one.call for one in route.dependant.dependencies]
        for method in route.methods:
            for known in (True, False):
                answer = await ask(method, place, known=known)
                kept = known and not is_open and answer.headers.get("cache-control") != "no-store"
                if lacking(answer) or kept:
                    wrong.append((method, place, known, answer.status_code, dict(answer.headers)))
    assert wrong == []


async def test_answers_of_no_route_have_them_too(ask):
    """What is not there, what is no way to ask, a foreign name, and a failure of the server's own."""
    answers = [
        await ask("GET", "/nothing"),
        await ask("PUT", "/healthz"),
        await ask("GET", "/healthz", headers={"Host": "evil.example"}),
    ]
    assert [one.status_code for one in answers] == [404, 405, 421]
    assert [lacking(one) for one in answers] == [[], [], []]


async def test_a_failure_of_the_servers_own_has_them(ask, monkeypatch):
    """It is answered outside of everything else."""

    def broken(*_words, **_more):
        raise ValueError("planted")

    monkeypatch.setattr("fleet.events.newest", broken)
    answer = await ask("GET", "/api/v1/events")
    assert (answer.status_code, lacking(answer)) == (500, [])


async def test_blobs_may_be_kept_for_their_name_is_their_content(ask):
    """An ETag says so; whoever has the digest asks for nothing else by it."""
    data = b"weights"
    place = f"/api/v1/blobs/{sha256(data)}"
    assert (await ask("PUT", place, content=data)).headers["cache-control"] == "no-store"
    answer = await ask("GET", place)
    assert (answer.content, "etag" in answer.headers, "cache-control" in answer.headers) == (data, True, False)
