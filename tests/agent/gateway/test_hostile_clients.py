"""Pages in a browser, half requests, names that lead elsewhere: the gateway has no password, and needs none."""

import asyncio
import contextlib
import logging

import msgspec
import pytest
from aiohttp import web

from agent.gateway.public_only import PublicOnly, is_public
from modules.protocol.routing import Fallback, Route
from tests.agent.gateway.stage import Stage
from tests.parts.pace import stretched


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8700"}, 200),
        ({"Host": "[::1]:8700"}, 200),
        ({"Host": "192.168.0.7"}, 200),
        ({"Host": "scores.factory"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://scores.factory"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://192.168.0.9"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://[::1"}, 403),
    ],
    ids=lambda value: " ".join(map(": ".join, value.items())) if isinstance(value, dict) else None,
)
async def test_pages_of_other_sites_and_foreign_names_are_refused(folder, headers, status):
    """Neither another site's page nor a name that its owner points at this device reaches a model."""
    async with Stage(folder) as stage:
        double = await stage.scoring("s")
        gateway = await stage.gateway(hosts=("scores.factory",))
        stage.serve(double)
        async with gateway.post(headers=headers) as answer:
            assert answer.status == status
        assert len(double.asked) == (status == 200)


async def test_half_requests_keep_nobody_out(folder):
    """Six hundred connections that never send a whole head are closed in time, and others are served meanwhile."""
    async with Stage(folder) as stage:
        double = await stage.scoring("s")
        gateway = await stage.gateway(head_s=0.3, connections=200)
        stage.serve(double)
        half = []
        for _ in range(600):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"POST /digits/score HTTP/1.1\r\nHost: x")
            half.append((reader, writer))
        async with asyncio.timeout(stretched(5)), gateway.post() as answer:
            assert answer.status == 200
        async with asyncio.timeout(stretched(10)):
            for reader, writer in half:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half of a greeting"])
async def test_whoever_tries_tls_is_soon_gone(folder, sent):
    """The gateway has no TLS: a client that begins with it, or says nothing, holds no connection beyond ``head_s``."""
    async with Stage(folder) as stage:
        gateway = await stage.gateway(head_s=0.3)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(sent)
        async with asyncio.timeout(stretched(5)):
            assert b"400" in await reader.read() if sent else await reader.read() == b""
        writer.close()


async def test_a_kept_connection_is_not_taken_for_a_half_request(folder):
    """Who has asked once may wait longer than a newcomer."""
    async with Stage(folder) as stage:
        double = await stage.scoring("s")
        gateway = await stage.gateway(head_s=0.1)
        stage.serve(double)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        for _ in range(2):
            writer.write(b"GET /digits/score HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in await reader.readline()
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(int(length))
            await asyncio.sleep(1.2)  # two looks at the connections
        writer.close()


async def test_no_answer_opens_another_protocol_or_wears_the_gateways_marks(folder):
    """A module that answers 101 has failed; who served is said by the gateway alone."""

    async def evil(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/up" in head:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        else:
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-edgefleet-served-by: fallback\r\n"
                b"x-edgefleet-module: a/b:9\r\nx-edgefleet-provider: CUDAExecutionProvider\r\n\r\n{}"
            )
        await writer.drain()
        writer.close()

    async with Stage(folder) as stage, await asyncio.start_unix_server(evil, folder / "evil.sock"):
        gateway = await stage.gateway()
        upstream = (await stage.scoring("s")).upstream
        at = type(upstream)(socket=str(folder / "evil.sock"), module="acme/evil:1", provider="", instance="e")
        stage.route(digits=Route(current=at))
        async with gateway.get("/digits/up", headers={"Connection": "Upgrade", "Upgrade": "x"}) as answer:
            assert answer.status == 502
        async with gateway.get("/digits/score") as answer:
            marks = {name.lower(): value for name, value in answer.headers.items() if name.lower().startswith("x-edge")}
        assert marks == {
            "x-edgefleet-served-by": "local",
            "x-edgefleet-module": "acme/evil:1",
            "x-edgefleet-provider": "",
        }


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("2002:0a00:0001::", False),
        ("64:ff9b::1.1.1.1", True),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::10.0.0.1", False),
        ("::127.0.0.1", False),
        ("::ffff:0:127.0.0.1", False),
        ("fec0::1", False),
        ("2606:4700::5efe:10.0.0.1", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address, public):
    """Loopback, private, link-local, shared, unspecified and multicast are not, inside IPv6 neither."""
    assert is_public(address) is public


async def test_a_fallback_that_leads_into_the_device_is_not_asked(folder):
    """Neither by a name that resolves there nor by an address, unless the device's own settings list the host."""
    resolver = PublicOnly(())
    with pytest.raises(OSError, match="not a public address"):
        await resolver.resolve("localhost", 80)
    assert await PublicOnly(("localhost",)).resolve("localhost", 80)

    asked = []

    async def handler(request):
        asked.append(request.path)
        return web.Response()

    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with Stage(folder) as stage:
        gateway = await stage.gateway(private_fallbacks=())
        here = ("127.0.0.1", "localhost", "localhost.", "127.1", "2130706433", "017700000001", "0177.0.0.1", "0x7f.1")
        more = ("127.0.0.1.", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]")
        # As a device reads digits and dots of other scripts.
        other = ("\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u246027.0.0.1", "a@127.0.0.1", "[::1%25lo]")
        for number, host in enumerate((*here, *more, *other)):
            stage.route(digits=Route(fallback=Fallback(url=f"http://{host}:{port}", module=str(number))))
            async with gateway.post() as answer:
                assert (host, answer.status) == (host, 503)
    await runner.cleanup()
    assert asked == []


@pytest.mark.parametrize(
    "host", ["a..b", "x" * 64, "[1.2.3.4]", "[:::::]", "[::1", "a:b:c", "a:99999", "xn--a", "exa\u00admple", "\u2024"]
)
async def test_a_fallback_that_is_no_host_is_nobody(folder, host):
    """A table of an older agent's, say, with an address that no program can look up: its clients hear that, in JSON."""
    async with Stage(folder) as stage:
        gateway = await stage.gateway()
        stage.route(digits=Route(fallback=Fallback(url=f"https://{host}/x", module="1")))
        async with gateway.post() as answer:
            assert answer.status == 503
            assert "has nobody who can answer now (" in (await answer.json())["message"]


async def test_the_list_of_slots_names_nobody_who_does_not_listen(folder):
    """A module whose socket is dead is not called local, and the table's generation is told."""
    async with Stage(folder) as stage:
        double = await stage.scoring("s")
        gateway = await stage.gateway()
        stage.serve(double)
        async with gateway.get("/") as answer:
            assert (await answer.json())[0]["served_by"] == "local"
            assert answer.headers["x-edgefleet-table"] == "1"
        await double.stop()
        async with gateway.get("/") as answer:
            assert (await answer.json())[0]["served_by"] is None


async def test_a_length_of_thousands_of_zeros_is_none(folder, caplog):
    """HTTP's parsers take it and Python does not read it: a 400 for the client that sends it, a 502 for the module."""
    zeros = b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\n{}"

    async def evil(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + zeros)
        writer.close()

    async with Stage(folder) as stage, await asyncio.start_unix_server(evil, folder / "evil.sock"):
        gateway = await stage.gateway()
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        stage.serve(await stage.scoring("s"))
        writer.write(b"POST /digits/score HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + zeros)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        writer.close()
        await writer.wait_closed()

        at = msgspec.structs.replace((await stage.scoring("t")).upstream, socket=str(folder / "evil.sock"))
        stage.route(digits=Route(current=at))
        async with gateway.get("/digits/score") as answer:
            assert answer.status == 502
            assert "Content-Length" in (await answer.json())["message"]
    assert "Traceback" not in caplog.text


async def test_what_is_not_http_leaves_no_traceback(folder, caplog):
    """A client's nonsense and a head that is too long are answered, and are no lines in the operator's log."""
    caplog.set_level(logging.INFO)
    async with Stage(folder) as stage:
        gateway = await stage.gateway()
        for nonsense in (b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(nonsense)
            assert b"400" in await reader.readline()
            writer.close()
    assert "Traceback" not in caplog.text
