"""A body that the module's memory does not bear is refused by the gateway, whatever server the module has."""

import asyncio
import io

import msgspec
import pytest

from modules.protocol.routing import Route
from tests.agent.gateway.stage import Stage

MIB = 1 << 20
BINARY = {"content-type": "application/octet-stream"}
PICTURE = {"content-type": "IMAGE/png"}
TENSORS = {"content-type": "application/json", "inference-header-content-length": "100"}
TEXT = {"content-type": "application/json"}


async def in_pieces(size):
    """A body whose length nobody says beforehand."""
    for begin in range(0, size, 64 << 10):
        yield bytes(min(64 << 10, size - begin))


def declared(size):
    """A body whose length is said with it."""
    return io.BytesIO(bytes(size))


def with_memory(double, memory_mb):
    return msgspec.structs.replace(double.upstream, memory_mb=memory_mb)


@pytest.mark.parametrize("whole", [True, False], ids=["declared", "in pieces"])
@pytest.mark.parametrize(
    ("headers", "most"),
    [(TEXT, 2 * MIB), ({}, 2 * MIB), (BINARY, 8 * MIB), (PICTURE, 8 * MIB), (TENSORS, 8 * MIB)],
    ids=["json", "unsaid", "binary", "picture", "tensors"],
)
async def test_the_limit_follows_the_memory(folder, headers, most, whole):
    """For 128 MiB: 2 MiB of JSON or text, 8 MiB of bytes. One byte more is 413, whose message says how much is allowed
    and what to do, and the module never sees a whole one; with a body on the limit it is asked."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.route(digits=Route(current=with_memory(one, 128)))
        for replay in (16 * MIB, MIB):
            running = await stage.gateway(replay_body=replay)
            for size, status in ((most, 200), (most + 1, 413)):
                data = declared(size) if whole else in_pieces(size)
                async with running.post(data=data, headers=headers, skip_auto_headers=["Content-Type"]) as answer:
                    said = await answer.json()
                    assert answer.status == status, said
            assert f"larger than {most} bytes: send less at once" in said["message"]


async def test_without_a_limit_of_memory_the_settings_hold(folder):
    """A module that no engine limits, or whose limit an older agent does not say, is asked up to the gateway's own."""
    async with Stage(folder) as stage:
        stage.serve(await stage.scoring("one"))
        running = await stage.gateway(max_body=4 * MIB)
        for size, status in ((4 * MIB, 200), (4 * MIB + 1, 413)):
            async with running.post(data=declared(size), headers=TEXT) as answer:
                assert answer.status == status


async def test_the_one_behind_is_not_asked_for_more_than_it_bears(folder):
    """A predecessor with less memory is not sent what only its successor bears."""
    async with Stage(folder) as stage:
        one, two = await stage.scoring("one"), await stage.scoring("two")
        stage.route(digits=Route(current=with_memory(two, 1024), previous=with_memory(one, 128)))
        running = await stage.gateway()
        async with running.post(data=declared(3 * MIB), headers=TEXT) as answer:
            assert (answer.status, (await answer.json())["who"]) == (200, "two")
        await two.kill()
        for size, status in ((MIB, 200), (3 * MIB, 413)):
            async with running.post(data=declared(size), headers=TEXT) as answer:
                assert answer.status == status


async def test_a_body_is_refused_by_its_head_alone(folder):
    """Nothing of too large a body is read, no 100 Continue asks for it, and words that are no UTF-8 are no binary."""
    async with Stage(folder) as stage:
        one = await stage.scoring("one")
        stage.route(digits=Route(current=with_memory(one, 128)))
        running = await stage.gateway()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /digits/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3145728\r\n")
        writer.write(b"Expect: 100-continue\r\nContent-Type: \xff\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()
