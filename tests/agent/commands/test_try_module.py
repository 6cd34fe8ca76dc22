"""What an operator asks from afar: as an application there would, bounded, and only where the owner lets them."""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from agent.commands.desk import WAITING_LARGE
from modules.protocol.commands import TRIAL_BODY, TRIED_BODY, Trial, Tried
from tests.agent.commands.commanding import commanded

PICTURE = bytes(range(256)) * (TRIAL_BODY // 256)
HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-edgefleet-module: acme/digits:1\r\n"
    "X-Edgefleet-Served-By: local\r\nx-edgefleet-provider: CPUExecutionProvider\r\nx-request-id: {ident}\r\n"
)


@asynccontextmanager
async def gateway(device, answer):
    """Something that listens at the gateway's address; ``answer`` makes the bytes of an answer of a request."""
    asked = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        asked.append((head.decode(), await reader.readexactly(length)))
        writer.write(answer(asked[-1]))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    device.settings = msgspec.structs.replace(device.settings, gateway_address=address)
    device.parts = device.parts._replace(settings=device.settings)
    device.desk._parts = device.parts
    async with server:
        yield asked


def ok(body, ident="x"):
    return f"{HEAD.format(ident=ident)}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_the_answer_comes_back_with_who_gave_it(device):
    """The largest body that may be sent arrives whole, as its media type; the request has the command's id."""
    command = device.command("try-module", slot="main", trial=Trial(content_type="image/jpeg", body=PICTURE))
    async with gateway(device, lambda _: ok(b'{"label": 7}', command.id)) as asked:
        device.gets(command)
        said = await device.answer(command)
    assert said.state == "done", said
    assert said.note.endswith("by acme/digits:1, local")
    ((head, body),) = asked
    assert body == PICTURE
    assert head.startswith("POST /main/score HTTP/1.1\r\n")
    assert "Content-Type: image/jpeg\r\n" in head
    assert f"x-request-id: {command.id}\r\n" in head
    found = msgspec.json.decode(device.result(command), type=Tried)
    assert found.ms > 0
    assert msgspec.structs.replace(found, ms=0.0) == Tried(
        status=200,
        ms=0.0,
        content_type="application/json",
        body=b'{"label": 7}',
        module="acme/digits:1",
        served_by="local",
        provider="CPUExecutionProvider",
        request_id=command.id,
    )


async def test_what_the_module_takes_is_asked_for_without_a_body(device):
    async with gateway(device, lambda _: ok(b"{}")) as asked:
        said = await device.does("try-module", slot="main", trial=Trial(path="swagger.json", body=b"not sent"))
    assert said.state == "done", said
    assert asked[0][0].startswith("GET /main/swagger.json?version=3 HTTP/1.1\r\n")
    assert asked[0][1] == b""


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: ok(b"x" * (TRIED_BODY + 1)), f"longer than the {TRIED_BODY} allowed"),
        (lambda _: b"nonsense\r\n\r\n", "does not begin like HTTP"),
        (lambda _: ok(b"abc")[:-1], "broke off"),
    ],
    ids=["too-long", "no-http", "cut"],
)
async def test_an_answer_that_cannot_be_used_is_none(device, answer, why):
    async with gateway(device, answer):
        said = await device.does("try-module", slot="main", trial=Trial())
    assert (said.state, said.reason.code) == ("failed", "transient")
    assert why in said.reason.message


async def test_the_owner_of_the_device_has_the_last_word(device):
    """With the setting off nobody is asked, whoever signed the command."""
    async with gateway(device, lambda _: ok(b"{}")) as asked:
        device.desk._parts = device.parts._replace(settings=msgspec.structs.replace(device.settings, try_module=False))
        said = await device.does("try-module", slot="main", trial=Trial())
    assert (said.state, said.reason.code) == ("failed", "unfit")
    assert not asked


async def test_without_a_gateway_it_says_so(device):
    async with gateway(device, lambda _: b""):
        pass
    said = await device.does("try-module", slot="main", trial=Trial())
    assert (said.state, said.reason.code) == ("failed", "needs-operator")


async def test_few_large_commands_wait_at_a_time(folder):
    """Whoever has the broker fills no memory with them; small ones are taken meanwhile."""
    async with commanded(folder, running=False) as device:
        large = [device.command("try-module", slot="main", trial=Trial(body=PICTURE)) for _ in range(WAITING_LARGE + 2)]
        for one in large:
            device.gets(one)
        device.gets(device.command("ping"))
        assert [one.levels[0] for one in device.desk._queue] == ["try-module"] * WAITING_LARGE + ["ping"]
