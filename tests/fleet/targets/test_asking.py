"""An endpoint is asked by the server: at its own address alone, with its key, and bounded in time and bytes."""

import asyncio
import base64
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from sqlalchemy import update

from fleet.people.roles import Grant
from fleet.target_tables import endpoints, targets
from fleet.targets.contract import Standing
from modules.protocol.commands import TRIED_BODY
from tests.fleet.targets.test_endpoints import create, token

PATH = "/api/v1/endpoints/digits/try"
KEY = "k" * 20


@contextmanager
def listening(answer):
    """An HTTP server; ``answer`` gets the handler. Yields its address, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, dict(self.headers), body))
            answer(self)

        def do_GET(self):
            asked.append((self.path, dict(self.headers), b""))
            answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def said(body, status=200, **fields):
    def answer(handler):
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **fields}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def at(cloud, url, docker="unix:///nonexistent.sock"):
    """The endpoint answers there, as its target has seen it."""
    standing = msgspec.json.encode(Standing(state="ready", url=url)).decode()
    with cloud.database.write() as connection:
        connection.execute(update(endpoints).values(standing=standing))
        connection.execute(update(targets).values(attached=json.dumps({"docker": docker})))


@pytest.fixture
async def endpoint(cloud):
    await create(cloud, primary_key=KEY)
    async with asyncio.timeout(20):
        # Another task looks at it, in vain, and keeps the address afterwards.
        while (await cloud.ask("GET", "/api/v1/endpoints/digits")).json()["state"] != "failed":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return cloud


async def test_an_endpoint_is_asked_with_its_key_and_answers(endpoint):
    """Body, type and version go there; the answer comes back with who gave it. No key is in it."""
    fields = {"Content_Type": "application/json", "x_edgefleet_module": "acme/digits:1", "x_edgefleet_version": "v1"}
    with listening(said(b"[7]", x_edgefleet_served_by="local", **fields)) as (url, asked):
        at(endpoint, url)
        answer = await endpoint.ask(
            "POST", f"{PATH}?version=v1", content=b"\xff\xd8picture", headers={"Content-Type": "image/jpeg"}
        )
    assert answer.status_code == 200, answer.text
    found = answer.json()["answer"]
    assert (found["module"], found["version"], found["served_by"]) == ("acme/digits:1", "v1", "local")
    assert base64.b64decode(found["body"]) == b"[7]"
    ((path, headers, body),) = asked
    assert (path, body) == ("/digits/score", b"\xff\xd8picture")
    assert (headers["Authorization"], headers["Content-Type"]) == (f"Bearer {KEY}", "image/jpeg")
    assert headers["x-edgefleet-version"] == "v1"
    assert KEY not in answer.text


async def test_what_the_module_takes_is_asked_for(endpoint):
    with listening(said(b'{"openapi": "3.0.3"}')) as (url, asked):
        at(endpoint, url)
        answer = await endpoint.ask("POST", f"{PATH}?path=swagger.json")
    assert base64.b64decode(answer.json()["answer"]["body"]) == b'{"openapi": "3.0.3"}'
    assert asked[0][0] == "/digits/swagger.json?version=3"


async def test_nobody_is_sent_elsewhere(endpoint):
    """A redirection is an answer like any other: who it points to is asked nothing, and learns no key."""
    with listening(said(b"[8]")) as (other, never), listening(said(b"", 307, Location=f"{other}/x")) as (url, _):
        at(endpoint, url)
        answer = await endpoint.ask("POST", PATH, content=b"{}")
    assert answer.json()["answer"]["status"] == 307
    assert not never


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (said(b"x" * (TRIED_BODY + 1)), 422, "invalid"),
        (lambda _: time.sleep(2), 503, "target-trouble"),
    ],
    ids=["too-long", "too-slow"],
)
async def test_an_answer_is_bounded(endpoint, answer, status, code, refused):
    with listening(answer) as (url, _):
        at(endpoint, url)
        refused(await endpoint.ask("POST", f"{PATH}?within_s=1", content=b"{}"), status, code)


async def test_the_servers_own_loopback_is_not_another_machines(endpoint, refused):
    """An endpoint on another host's loopback: what listens on this machine at that port is asked nothing."""
    with listening(said(b"[7]")) as (url, asked):
        at(endpoint, url, docker="ssh://elsewhere")
        refused(await endpoint.ask("POST", PATH, content=b"{}"), 409, "conflict")
        at(endpoint, url.replace("127.0.0.1", "localhost"), docker="ssh://elsewhere")
        refused(await endpoint.ask("POST", PATH, content=b"{}"), 409, "conflict")
    at(endpoint, "")
    refused(await endpoint.ask("POST", PATH, content=b"{}"), 409, "conflict")
    assert not asked


async def test_who_may_ask_an_endpoint(endpoint, refused):
    """An operator of its team; no viewer, nobody of another team, nobody with rights for some devices alone."""
    with listening(said(b"[7]")) as (url, asked):
        at(endpoint, url)
        for grant, status in (
            (Grant("viewer"), 403),
            (Grant("operator", teams=("other",)), 404),
            (Grant("operator", selector="site=berlin"), 403),
        ):
            answer = await endpoint.ask("POST", PATH, token(endpoint, grant), content=b"{}")
            assert answer.status_code == status, grant
        assert not asked
        answer = await endpoint.ask("POST", PATH, token(endpoint, Grant("operator", teams=("acme",))), content=b"{}")
        assert answer.status_code == 200
