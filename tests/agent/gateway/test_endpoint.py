"""The gateway in front of an endpoint: who may ask, from which pages, over TLS, and what an orchestrator sees."""

import asyncio
import json
import os
import ssl
import time
from pathlib import Path

import pytest

from agent.gateway.__main__ import main
from modules import access_tokens
from modules.endpoint import looks
from modules.protocol.routing import Route, Version
from tests.agent.gateway.stage import Stage
from tests.agent.gateway.test_cloud import Authority
from tests.parts.pace import stretched

KEY, OTHER = "primary-key-of-sixteen", "secondary-key-of-sixteen"
SECRET = b"s" * 32
PAGE = "https://app.example"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


class Endpoint(Stage):
    """A stage with one replica behind an endpoint's gateway."""

    async def open(self, *, door=None, **settings):
        self.keys = self.folder / "keys.json"
        self.write_keys(KEY, OTHER, **(door or {}))
        self.double, replica = await self.replica("one")
        self.route(digits=Route(versions=(Version(name="v1", weight=100, replicas=(replica,)),)))
        return await self.gateway(access=self.keys, **settings)

    def write_keys(self, *keys, dated=None, **more):
        """Replace the file in one step, with this date where one is given, as a copy that keeps dates does."""
        encoded = "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M="
        new = self.keys.with_suffix(".new")
        new.write_text(json.dumps({"keys": keys, "token_secret": encoded, **more}))
        if dated is not None:
            os.utime(new, (dated, dated))
        new.replace(self.keys)


@pytest.mark.parametrize("key", [KEY, OTHER])
async def test_either_key_lets_in(folder, key):
    """Two keys hold at a time, so that one can be changed while clients use the other."""
    async with Endpoint(folder) as stage:
        running = await stage.open()
        async with running.post("/score", headers=bearer(key)) as answer:
            assert (answer.status, answer.headers["x-edgefleet-version"]) == (200, "v1")


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "send a key or a token: Authorization: Bearer ..."),
        ({"Authorization": f"Basic {KEY}"}, "send a key or a token: Authorization: Bearer ..."),
        (bearer(KEY[:-1]), "Authorization: this is not a token of this endpoint"),
        (bearer(""), "send a key or a token: Authorization: Bearer ..."),
        (bearer("ß" * 20), "Authorization: this is not a token of this endpoint"),
        (bearer(access_tokens.make(SECRET, expires=1)), "Authorization: the token has expired (fetch a new one)"),
        (
            bearer(access_tokens.make(b"x" * 32, expires=1 << 40)),
            "Authorization: this is not a token of this endpoint",
        ),
    ],
)
async def test_nobody_else_reaches_the_module(folder, headers, why):
    """Without a key that holds the answer is 401 and says why; nothing of the request reaches a replica."""
    async with Endpoint(folder) as stage:
        running = await stage.open()
        async with running.post("/score", headers=headers) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert (await answer.json())["message"] == why
        assert stage.double.asked == []


async def test_a_token_lets_in_until_it_expires(folder):
    """A token made with the endpoint's secret is as good as a key for as long as it says."""
    async with Endpoint(folder) as stage:
        running = await stage.open()
        token = access_tokens.make(SECRET, expires=int(time.time()) + 60)
        async with running.post("/score", headers=bearer(token)) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("dated", [None, 0.0])
async def test_a_key_is_changed_without_a_restart(folder, dated):
    """Once the file has another key, the old one lets nobody in, and the gateway has not stopped.

    So it is where every file that is put there has one and the same date.
    """
    async with Endpoint(folder) as stage:
        running = await stage.open(door={"dated": dated})
        async with running.post("/score", headers=bearer(KEY)) as answer:
            status = answer.status
        assert status == 200
        stage.write_keys("a-new-key-of-sixteen", OTHER, dated=dated)
        deadline = time.monotonic() + stretched(10)
        while status == 200 and time.monotonic() < deadline:
            async with running.post("/score", headers=bearer(KEY)) as answer:
                status = answer.status
        assert status == 401
        for key in ("a-new-key-of-sixteen", OTHER):
            async with running.post("/score", headers=bearer(key)) as answer:
                assert answer.status == 200


async def test_a_look_opens_the_index_and_nothing_else(folder):
    """Made with the endpoint's keys it shows what is counted until it expires; it asks no module."""
    good = looks.make((KEY, OTHER), expires=int(time.time()) + 60)
    others = (looks.make((OTHER, KEY), expires=1 << 40), looks.make((KEY, OTHER), expires=1), KEY, "ß", "")
    async with Endpoint(folder) as stage:
        running = await stage.open()
        async with running.get("/edgefleet/endpoint", headers={looks.HEADER: good}) as answer:
            assert (answer.status, [one["slot"] for one in await answer.json()]) == (200, ["digits"])
        for shown in others:
            async with running.get("/edgefleet/endpoint", headers={looks.HEADER: shown}) as answer:
                assert answer.status == 401, shown
        async with running.post("/score", headers={looks.HEADER: good}) as answer:
            assert answer.status == 401
        assert stage.double.asked == []


async def test_an_open_endpoint_scores_for_everybody_and_shows_its_index_to_none_without_a_key(folder):
    """``open`` lets anybody score; routes and counts are for who has a key."""
    async with Endpoint(folder) as stage:
        running = await stage.open(door={"open": True})
        async with running.post("/score") as answer:
            assert answer.status == 200
        async with running.get("/edgefleet/endpoint") as answer:
            assert answer.status == 401
        async with running.get("/edgefleet/endpoint", headers=bearer(KEY)) as answer:
            (slot,) = await answer.json()
            assert slot["versions"] == [{"name": "v1", "weight": 100, "in_flight": {"one": 0}}]
            assert slot["counts"]["one"]["requests"] == 1
            assert answer.headers["x-edgefleet-table"] == "1"


async def test_an_orchestrator_asks_for_health_without_a_key(folder):
    """``/`` says Healthy as a scoring server does, with the table in use, and 503 while nothing is behind it."""
    async with Endpoint(folder) as stage:
        running = await stage.open()
        async with running.get("/") as answer:
            assert (answer.status, await answer.text()) == (200, "Healthy")
            assert answer.headers["x-edgefleet-table"] == "1"
        async with running.post("/v2/health/live", data=b"x") as answer:
            assert answer.status == 401  # what holds a place is no look
        stage.route(digits=Route(versions=(Version(name="v1", weight=100),)))
        async with running.get("/") as answer:
            assert answer.status == 503


async def test_a_client_of_a_kubernetes_service_keeps_its_path(folder):
    """The path under which Azure Kubernetes Service has its endpoints leads here, too."""
    async with Endpoint(folder) as stage:
        running = await stage.open()
        async with running.post("/api/v1/service/digits/score", headers=bearer(KEY)) as answer:
            assert answer.status == 200
        assert stage.double.asked[-1][1] == "/score"


async def test_pages_of_named_origins_may_read_the_answers(folder):
    """A browser's preflight is answered without a key, and each answer, a refusal too, names the page's origin."""
    async with Endpoint(folder) as stage:
        running = await stage.open(door={"cors_origins": [PAGE]})
        asks = {
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        async with running.session.options(running.url + "/score", headers=asks) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
            assert answer.headers["Access-Control-Allow-Headers"] == "authorization"
        assert stage.double.asked == []
        for headers, status in (({}, 401), (bearer(KEY), 200)):
            async with running.post("/score", headers={"Origin": PAGE, **headers}) as answer:
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == PAGE
                assert answer.headers["Vary"] == "Origin"


async def test_pages_of_other_origins_may_not(folder):
    """Another page's preflight is turned away like any request without a key, and no answer names its origin."""
    async with Endpoint(folder) as stage:
        running = await stage.open(door={"cors_origins": [PAGE]})
        asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        async with running.session.options(running.url + "/score", headers=asks) as answer:
            assert answer.status == 401
            assert "Access-Control-Allow-Origin" not in answer.headers
        async with running.post("/score", headers={"Origin": "https://evil.example", **bearer(KEY)}) as answer:
            assert answer.status == 200
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_renewed_certificate_is_served_without_a_restart(folder):
    """The endpoint speaks TLS, and connections that are made after a renewal see the new certificate."""
    authority = Authority(folder)
    async with Endpoint(folder) as stage:
        certificate, key = authority.issue("endpoint-1", file="endpoint")
        running = await stage.open(tls_certificate=Path(certificate), tls_key=Path(key))
        trusting = ssl.create_default_context(cafile=authority.file)

        async def subject():
            address = ("127.0.0.1", running.port)
            _, writer = await asyncio.open_connection(*address, ssl=trusting, server_hostname="127.0.0.1")
            seen = writer.get_extra_info("peercert")["subject"][0][0][1]
            writer.close()
            await writer.wait_closed()
            return seen

        async with running.session.post(
            f"https://127.0.0.1:{running.port}/score", headers=bearer(KEY), ssl=trusting
        ) as answer:
            assert answer.status == 200
        assert await subject() == "endpoint-1"
        authority.issue("endpoint-2", file="endpoint")
        deadline = time.monotonic() + stretched(10)
        while (seen := await subject()) == "endpoint-1" and time.monotonic() < deadline:
            pass
        assert seen == "endpoint-2"


@pytest.mark.parametrize("half", ["--tls-certificate", "--tls-key"])
def test_half_of_what_tls_needs_is_refused_at_the_start(half, tmp_path, capsys):
    """A certificate without its key, or a key without its certificate, is no endpoint without TLS."""
    arguments = ["--table", str(tmp_path / "t.json"), "--listen", "127.0.0.1:0", half, str(tmp_path / "one.pem")]
    assert main(arguments) == 78
    assert "a certificate needs its key" in capsys.readouterr().err


def test_a_file_without_keys_is_refused_at_the_start(tmp_path, capsys):
    """An endpoint never comes up open because its keys could not be read."""
    (tmp_path / "keys.json").write_text("{}")
    arguments = [
        "--table",
        str(tmp_path / "t.json"),
        "--listen",
        "127.0.0.1:0",
        "--access",
        str(tmp_path / "keys.json"),
    ]
    assert main(arguments) == 78
    assert "there is no key in it" in capsys.readouterr().err
