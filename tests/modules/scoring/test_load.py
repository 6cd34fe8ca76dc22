"""Many, slow, large, broken and vanishing clients at once: nothing breaks, memory stays flat, refusals say why."""

import asyncio
import contextlib
import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest

CLIENTS = 1000
# Pools and the allocator's arenas grow to what the worst moment needs, which takes a few rounds to come by.
SETTLING = 6
ROUNDS = 4
LARGE = 100 << 20
GOOD = b'{"data": [[1, -1, 2, -2]]}'
# Body -> status, and what the reason must say.
CASES = [
    (GOOD, 200, ""),
    (b"{", 400, "no JSON"),
    (b'{"data": [[1, 2]]}', 400, "expected float32[N, 4], got shape [1, 2]"),
    (b'{"data": [[1, 2, 3, NaN]]}', 400, "no JSON"),
    (b'{"data": [[1, 2, 3, null]]}', 200, ""),
    (b'{"data": [[1, 2, 3, 1e999]]}', 400, ""),
    (b'{"data": [["1", 2, 3, 4]]}', 400, "expected float32[N, 4]"),
    (b'{"other": 1}', 400, "expected a JSON object with the keys x"),
    (b"\xff\xfe", 400, "no JSON"),
    (b"[" * 5000, 400, "no JSON"),
    (b"", 400, "no JSON"),
]


@pytest.fixture(scope="module")
def server(start, relu):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * CLIENTS)), hard))
    limits = json.dumps({"max_body": LARGE, "max_held": 3 * LARGE})
    yield start("--model", relu, EDGEFLEET_LIMITS=limits).ready()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connect(server):
    while True:
        try:
            return await asyncio.open_unix_connection(server.socket)
        except BlockingIOError:
            # The socket's queue of connections is full: the next one is accepted in a moment.
            await asyncio.sleep(0.005)


def post(body, *more, length=None):
    head = ["POST /score HTTP/1.1", f"content-length: {len(body) if length is None else length}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


async def answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    (length,) = [int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length")]
    return int(head.split()[1]), await reader.readexactly(length)


async def close(writer):
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def steady(server, number):
    """Several requests on one connection, good and bad in turn; each has its own right answer."""
    reader, writer = await connect(server)
    for turn in range(3):
        body, status, said = CASES[(number + turn) % len(CASES)]
        writer.write(post(body))
        got, text = await answer(reader)
        assert (got, said in text.decode()) == (status, True), (body[:50], got, text[:200])
        if got >= 400:
            assert json.loads(text)["message"]
    await close(writer)


async def slow(server):
    """One byte after another, and still answered."""
    reader, writer = await connect(server)
    for byte in post(GOOD):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.005)
    assert (await answer(reader))[0] == 200
    await close(writer)


async def vanishing(server, place):
    """Gone in the middle of the head, of the body, or before the answer."""
    _, writer = await connect(server)
    writer.write(post(b" " * 100_000)[:place])
    await writer.drain()
    await close(writer)


async def large(server):
    """A body as large as is allowed, answered with as many bytes."""
    reader, writer = await connect(server)
    body = np.ones(LARGE // 4, np.float32).tobytes()
    writer.write(post(body, "content-type: application/octet-stream", "accept: application/octet-stream"))
    status, text = await answer(reader)
    assert (status, text == body) == (200, True)
    await close(writer)


async def too_large(server):
    """Refused by the announced length, with a reason, before the body comes."""
    reader, writer = await connect(server)
    writer.write(post(b"", length=LARGE + 1))
    status, text = await answer(reader)
    assert (status, "larger than" in text.decode()) == (413, True)
    await close(writer)


async def nonsense(server):
    """What is no HTTP is 400 with a reason."""
    reader, writer = await connect(server)
    writer.write(os.urandom(64) + b"\r\n\r\n")
    status, text = await answer(reader)
    assert (status, "no HTTP request" in text.decode()) == (400, True)
    await close(writer)


async def everything(server):
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(steady(server, number))
        for place in (10, 60, 5000, 100_000, None):
            for _ in range(10):
                group.create_task(vanishing(server, place))
        for _ in range(20):
            group.create_task(slow(server))
            group.create_task(too_large(server))
            group.create_task(nonsense(server))
        group.create_task(large(server))


def rss(server):
    fields = Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1]
    return int(fields.split()[0])


@pytest.mark.timeout(180)
async def test_under_load(server):
    """After rounds of all of it the server stands, holds nothing, and is no larger than after the first rounds."""
    for _ in range(SETTLING):
        await everything(server)
    settled = rss(server)

    for _ in range(ROUNDS):
        await everything(server)

    assert server.process.poll() is None
    assert rss(server) <= 1.05 * settled
    text = server.ask("/metrics").body.decode()
    assert "edgefleet_scoring_held_bytes 0\n" in text
    assert "edgefleet_scoring_errors_total 0\n" in text
    assert "Traceback" not in server.log


async def test_a_thousand_idle_connections(server):
    """A thousand open connections keep nobody from being answered, and all are counted."""
    writers = [(await connect(server))[1] for _ in range(CLIENTS)]
    assert server.ask(body=GOOD).json == {"y": [[1, 0, 2, 0]]}
    assert f"edgefleet_scoring_connections {CLIENTS + 1}\n" in server.ask("/metrics").body.decode()
    for writer in writers:
        await close(writer)
