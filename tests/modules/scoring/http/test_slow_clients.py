"""Clients that dribble, stall or do not read: each is cut after a time that is known, with the reason in the answer.

They all keep one server waiting at once, for as long as its shortest and longest times really are.
"""

import asyncio
import contextlib
import json
import time

import pytest

from modules.scoring.http.connection import HEAD_S, MAX_HEAD, SLOWEST_BYTES_PER_S, TRANSFER_S
from tests.parts.rough_clients import GOOD, close, connect

# How much later than its time a client may be cut: connections are looked through once a second, on a busy machine.
LATE_S = 8.0
# More than the kernel keeps for a reader, and more behind it than the server writes without minding.
UNREAD = 320_000
START = b"POST /score HTTP/1.1\r\n"
RAW = b"content-type: application/octet-stream\r\naccept: application/octet-stream\r\n"
CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n"


def endless(begin, piece, pause_s):
    async def sending(writer):
        writer.write(begin)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return sending


def stalled(begin):
    async def sending(writer):
        writer.write(begin)
        await writer.drain()

    return sending


async def second_dribbles(writer):
    """A good request, and then another one byte by byte."""
    await endless(START + b"content-length: %d\r\n\r\n%s" % (len(GOOD), GOOD) + START + b"x-a: ", b"a", 0.5)(writer)


async def slow_enough(writer):
    """A body that takes longer than a short one may, at a pace that is allowed."""
    pieces, piece = round(TRANSFER_S) + 4, b" " * (SLOWEST_BYTES_PER_S * 5 // 4)
    writer.write(START + b"content-length: %d\r\n\r\n" % (pieces * len(piece) + len(GOOD)))
    for _ in range(pieces):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(1)
    writer.write(GOOD)


CLIENTS = {
    "a head byte by byte": endless(START + b"x-a: ", b"a", 0.5),
    "a head line by line": endless(START, b"x-a: b\r\n", 0.5),
    "half a head": stalled(START),
    "a second head byte by byte": second_dribbles,
    "a body byte by byte": endless(START + b"content-length: 1000\r\n\r\n", b" ", 0.5),
    "a large body byte by byte": endless(START + b"content-length: 1000000\r\n\r\n", b" ", 0.5),
    "chunks byte by byte": endless(CHUNKED, b"1\r\n \r\n", 0.5),
    "half a body": stalled(START + b"content-length: 1000\r\n\r\n{"),
    "a body slow enough": slow_enough,
    "nothing": stalled(b""),
}


async def outcome(server, sending):
    """The statuses and reasons that came until the end of the connection, and after how many seconds it came."""
    reader, writer = await connect(server.socket)
    began = time.monotonic()
    sender = asyncio.create_task(sending(writer))
    answers = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            (length,) = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("content-length")]
            answers.append((int(head.split()[1]), json.loads(await reader.readexactly(int(length)))))
            if answers[-1][0] == 200 and sending is slow_enough:
                break
    took = time.monotonic() - began
    sender.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConnectionError):
        await sender
    await close(writer)
    return answers, took


async def unread(server):
    """Seconds until a client is cut who does not read its answer."""
    body = bytes(UNREAD)
    reader, writer = await connect(server.socket)
    writer.transport.pause_reading()
    writer.write(START + RAW + b"content-length: %d\r\n\r\n" % len(body) + body)
    began = time.monotonic()
    await connections(server, len(CLIENTS) + 2)
    await connections(server, 1)
    took = time.monotonic() - began
    await close(writer)
    del reader
    return took


async def connections(server, count):
    """Wait until the server has so many, the one that asks included."""
    line = f"edgefleet_scoring_connections {count}\n"
    await asyncio.to_thread(server.until, lambda: line in server.ask("/metrics").body.decode(), line)


@pytest.fixture(scope="module")
def cut(start, relu):
    """Client -> its answers and the time that it was given; and the same of one who does not read."""
    server = start("--model", relu).ready()

    async def all_at_once():
        return await asyncio.gather(unread(server), *(outcome(server, sending) for sending in CLIENTS.values()))

    deaf, *found = asyncio.run(all_at_once())
    return {**dict(zip(CLIENTS, found, strict=True)), "deaf": deaf}


@pytest.mark.parametrize(
    ("client", "after_s"),
    [
        ("a head byte by byte", HEAD_S), ("a head line by line", HEAD_S), ("half a head", HEAD_S),
        ("a body byte by byte", TRANSFER_S), ("a large body byte by byte", TRANSFER_S),
        ("chunks byte by byte", TRANSFER_S), ("half a body", TRANSFER_S),
    ],
)  # fmt: skip
@pytest.mark.long
def test_dribbling(cut, client, after_s):
    """Who dribbles gets 408 with the reason, after 15 s for a head and 30 s for a small body, however busily."""
    ((status, document),), took = cut[client]
    assert (status, document["message"]) == (408, "the request did not come in time")
    assert after_s <= took < after_s + LATE_S


@pytest.mark.long
def test_dribbling_on_a_kept_connection(cut):
    """A second request has no more time than a first one."""
    ((first, _), (second, document)), took = cut["a second head byte by byte"]
    assert (first, second, document["message"]) == (200, 408, "the request did not come in time")
    assert HEAD_S <= took < HEAD_S + LATE_S


def test_slow_enough(cut):
    """A body may take longer, if it comes at the slowest speed that is put up with, or faster."""
    ((status, _),), took = cut["a body slow enough"]
    assert (status, took > TRANSFER_S) == (200, True)


def test_nothing_sent(cut):
    """A connection on which nothing was asked is closed without a word."""
    answers, took = cut["nothing"]
    assert answers == []
    assert HEAD_S <= took < HEAD_S + LATE_S


def test_answer_that_is_not_read(cut):
    """Who does not read an answer is cut after the time that its bytes need at the slowest speed."""
    assert TRANSFER_S <= cut["deaf"] < TRANSFER_S + UNREAD / SLOWEST_BYTES_PER_S + LATE_S


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (START + b"x-a: " + b"a" * 1_000_000, 431, f"longer than {MAX_HEAD} bytes"),
        (START + b"x-a: b\r\n" * 100_000, 431, f"longer than {MAX_HEAD} bytes"),
        (b"GET /" + b"a" * 100_000, 414, "the address is longer"),
    ],
    ids=["header", "headers", "address"],
)
async def test_head_without_an_end(start, relu, sent, status, said):
    """A head that is too long is refused when it is, not when it ends."""
    answers, took = await outcome(start("--model", relu).ready(), stalled(sent))
    assert [(got, said in document["message"]) for got, document in answers] == [(status, True)]
    assert took < HEAD_S


async def test_half_a_request_at_the_end(start, relu):
    """Who has sent half a request when the server's time to finish is over is told that it will not be answered."""
    server = start("--model", relu, EDGEFLEET_LIMITS='{"drain_s": 0.2}').ready()
    reader, writer = await connect(server.socket)
    writer.write(START + b"content-length: 100\r\n\r\n")
    await connections(server, 2)
    server.process.terminate()
    assert (await reader.readuntil(b"\r\n")).split()[1] == b"503"
    assert b"this server is closing" in await reader.read()
    await close(writer)
    assert await asyncio.to_thread(server.wait) == 0
