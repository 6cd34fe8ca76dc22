"""An endpoint is asked by the server: at its own address alone, with its key, and bounded in time and bytes."""

import asyncio
import base64
import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from sqlalchemy import update

from fleet.authority import Authority
from fleet.people.roles import Grant
from fleet.target_tables import endpoints, targets
from fleet.targets.asking import AT_ONCE
from fleet.targets.contract import Standing
from modules.protocol.commands import TRIED_BODY
from tests.fleet.targets.test_endpoints import create, token
from tests.parts.certificates import self_signed

PATH = "/api/v1/endpoints/digits/try"
KEY = "k" * 20
_NAMES = {"another name": "elsewhere.example", "another host": "127.0.0.2"}


@contextmanager
def listening(answer, chain=None):
    """An HTTP server; ``answer`` gets the handler. Yields its address, and what it was asked.

    With ``chain``, a file of certificate and key, it speaks TLS as localhost.
    """
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
    if chain is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{'https://localhost' if chain else 'http://127.0.0.1'}:{server.server_port}", asked
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


def named(folder, authority, name="localhost"):
    """A file with a server's certificate by this authority, and its key."""
    made = authority.server([name])
    file = folder / f"{name}.pem"
    file.write_bytes(made.certificate + made.key)
    return file


async def looked_at(cloud):
    async with asyncio.timeout(20):
        # Another task looks at it, in vain, and keeps the address afterwards.
        while (await cloud.ask("GET", "/api/v1/endpoints/digits")).json()["state"] != "failed":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return cloud


@pytest.fixture
async def endpoint(cloud):
    await create(cloud, primary_key=KEY)
    return await looked_at(cloud)


@pytest.fixture
async def for_devices(cloud):
    """An endpoint that devices ask, too: the fleet's own authority names it, and nobody else may."""
    await create(cloud, primary_key=KEY, settings={"devices": True, "host_name": "localhost"})
    return await looked_at(cloud)


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


async def test_no_proxy_learns_the_key_and_no_place_is_lost(endpoint, monkeypatch):
    """However many are asked one after the other, and whatever the server's environment says."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with listening(said(b"[7]")) as (url, asked):
        at(endpoint, url)
        for _ in range(AT_ONCE + 1):
            answer = await endpoint.ask("POST", PATH, content=b"{}")
            assert answer.status_code == 200, answer.text
    assert len(asked) == AT_ONCE + 1


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


async def test_an_endpoint_is_asked_over_tls_by_the_fleets_own_authority(for_devices, tmp_path):
    """The fleet has named it: it is believed without a word from anybody else, and comes to see the key."""
    ours = Authority.load(for_devices.folder.ca, for_devices.clock)
    with listening(said(b"[7]"), named(tmp_path, ours)) as (url, asked):
        at(for_devices, url)
        answer = await for_devices.ask("POST", PATH, content=b"{}")
    assert answer.status_code == 200, answer.text
    assert base64.b64decode(answer.json()["answer"]["body"]) == b"[7]"
    assert asked[0][1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("wrong", ["another authority", "another name", "another host"])
async def test_who_is_not_believed_is_asked_nothing_and_it_is_said_why(for_devices, tmp_path, refused, wrong):
    """A certificate of another authority, or for another name: neither the body nor the key goes there."""
    ours = Authority.load(for_devices.folder.ca, for_devices.clock)
    other = Authority.create("somebody else", for_devices.clock)
    chain = named(tmp_path, other if wrong == "another authority" else ours, _NAMES.get(wrong, "localhost"))
    with listening(said(b"[7]"), chain) as (url, asked):
        at(for_devices, url)
        told = refused(await for_devices.ask("POST", PATH, content=b"{}"), 503, "target-trouble")
    assert not asked
    assert "has a certificate that is not believed, so it was asked nothing" in told["detail"]
    assert "believed is the fleet's own authority" in told["detail"]
    assert ("issuer" in told["detail"], "not valid for" in told["detail"]) == (wrong not in _NAMES, wrong in _NAMES)


async def test_an_endpoint_with_a_certificate_of_its_own_is_believed_by_that(cloud, tmp_path, refused):
    """Pinned at the endpoint it is enough; the fleet's authority is then nobody."""
    pinned = tmp_path / "own.pem"
    self_signed(pinned, tmp_path / "own.key", "localhost")
    key = (tmp_path / "own.key").read_text()
    settings = {"certificate": pinned.read_text(), "host_name": "localhost"}
    await create(cloud, primary_key=KEY, settings=settings, certificate_key=key)
    await looked_at(cloud)
    both = tmp_path / "both.pem"
    both.write_text(pinned.read_text() + key)
    with listening(said(b"[7]"), both) as (url, _):
        at(cloud, url)
        assert (await cloud.ask("POST", PATH, content=b"{}")).status_code == 200
    ours = Authority.load(cloud.folder.ca, cloud.clock)
    with listening(said(b"[7]"), named(tmp_path, ours)) as (url, asked):
        at(cloud, url)
        told = refused(await cloud.ask("POST", PATH, content=b"{}"), 503, "target-trouble")
    assert not asked
    assert "the endpoint's own certificate" in told["detail"]


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
