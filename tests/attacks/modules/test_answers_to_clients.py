"""What a module answers to clients, through the gateway: forged, smuggled, broken, slow or endless.

The gateway is a process of its own, and judged by what a client reads from it byte by byte, by its memory, and by the
other slot's clients.
"""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from agent import answering
from agent.counted import counted
from modules.protocol.phases import Phase
from tests.attacks.modules.memory import Peak
from tests.attacks.modules.plain import RIGHT
from tests.parts.pace import stretched

pytestmark = pytest.mark.long

# What is posted names the answer: SAYS[name], which the module is given in its script.
SAYS = """
import plain
from plain import RIGHT, answer, head
CHUNKED = b"Transfer-Encoding: chunked"
ONE = b"c\\r\\n" + RIGHT + b"\\r\\n0\\r\\n\\r\\n"
SAYS = {says}
def score(connection, request):
    return SAYS.get(request.rpartition(b"\\r\\n\\r\\n")[2].decode(), answer(RIGHT))
plain.serve(score=score)
"""
FORGED = """dict(
    marks=answer(RIGHT, b"X-Edgefleet-Served-By: fallback", b"x-edgefleet-module: acme/other:1",
                 b"X-EDGEFLEET-PROVIDER: TensorrtExecutionProvider", b"X-Request-Id: another's"),
    more=answer(RIGHT, b"X-Edgefleet-Table: 99", b"X-Edgefleet-Anything: 1"),
    twice=answer(RIGHT, *[b"x-edgefleet-module: acme/other:1"] * 9),
    trailer=head(CHUNKED) + b"c\\r\\n" + RIGHT + b"\\r\\n0\\r\\nX-Edgefleet-Module: acme/other:1\\r\\n\\r\\n",
    nominated=answer(RIGHT, b"Connection: x-edgefleet-module, x-edgefleet-served-by, x-request-id, content-length"),
    another=answer(RIGHT) + answer(b'"for the next client"'),
)"""
# Each is read in two ways by two readers, or breaks the terminal of whoever looks at it.
NO_HTTP = """dict(
    two_lengths=head(b"Content-Length: 2", b"Content-Length: 12") + RIGHT,
    length_and_chunks=head(b"Content-Length: 3", CHUNKED) + ONE,
    negative_length=head(b"Content-Length: -1") + RIGHT,
    signed_length=head(b"Content-Length: +12") + RIGHT,
    length_with_space=head(b"Content-Length : 3") + RIGHT,
    chunks_with_space=head(CHUNKED.replace(b":", b" :")) + ONE,
    other_coding=head(b"Transfer-Encoding: gzip, chunked") + ONE,
    chunked_twice=head(CHUNKED, CHUNKED) + ONE,
    negative_chunk=head(CHUNKED) + b"-1\\r\\n" + RIGHT + b"\\r\\n0\\r\\n\\r\\n",
    hex_chunk=head(CHUNKED) + b"0x" + ONE,
    overflowing_chunk=head(CHUNKED) + b"f" * 23 + b"\\r\\n" + ONE,
    short_chunk=head(CHUNKED) + b"2" + ONE[1:],
    mark_with_space=answer(RIGHT, b"X-Edgefleet-Module : acme/other:1"),
    carriage_return=answer(RIGHT, b"X: a\\rX-Edgefleet-Module: acme/other:1"),
    nul=answer(RIGHT, b"X: a\\0b"),
    escape=answer(RIGHT, b"X: \\x1b[2J"),
    escape_in_first_line=head(b"Content-Length: 12", first=b"HTTP/1.1 200 \\x1b[2J") + RIGHT,
    escape_for_http=b"\\x1b[2J garbage\\r\\n\\r\\n",
    no_status=head(b"Content-Length: 12", first=b"HTTP/1.1 000 OK") + RIGHT,
    high_status=head(b"Content-Length: 12", first=b"HTTP/1.1 999 OK") + RIGHT,
    body_of_none=head(b"Content-Length: 12", first=b"HTTP/1.1 204 OK") + RIGHT,
    large_field=answer(RIGHT, b"X: " + b"x" * 100000),
    many_fields=answer(RIGHT, *[b"X: x"] * 20000),
    long_line=b"x" * 8000 + b"\\r\\n\\r\\n",
    bare=RIGHT,
)"""
SWITCH = """
import plain
def score(connection, request):
    if b"switch" not in request:
        return plain.answer(plain.RIGHT)
    connection.sendall(plain.head(b"Upgrade: raw", b"Connection: upgrade", first=b"HTTP/1.1 101 Switching Protocols"))
    print("got", repr(connection.recv(1000)))
plain.serve(score=score)
"""
ENDLESS = """
import plain
CHUNKED = plain.head(b"Transfer-Encoding: chunked")
HINT = b"HTTP/1.1 103 Early Hints\\r\\n\\r\\n"
def score(connection, request):
    start = {
        b"fields": b"HTTP/1.1 200 OK\\r\\n", b"interim": b"", b"body": plain.head(),
        b"chunks": CHUNKED, b"trailers": CHUNKED + b"0\\r\\n",
    }
    more = {
        b"fields": b"X: y\\r\\n" * 1000, b"interim": HINT * 1000, b"body": bytes(1 << 16),
        b"chunks": b"10000\\r\\n" + bytes(1 << 16) + b"\\r\\n", b"trailers": b"X: y\\r\\n" * 1000,
    }
    how = request.rpartition(b"\\r\\n\\r\\n")[2]
    if how not in start:
        return plain.answer(plain.RIGHT)
    try:
        connection.sendall(start[how])
        while True:
            connection.sendall(more[how])
    finally:
        print(how.decode(), "ended")
plain.serve(score=score)
"""
STORM = """
import plain, time
HINT = b"HTTP/1.1 103 Early Hints\\r\\nLink: </a>\\r\\n\\r\\n"
LONG = b"HTTP/1.1 102 Processing\\r\\n" + b"X: %s\\r\\n" % (b"x" * 8000) * 100 + b"\\r\\n"
RIGHT = plain.answer(plain.RIGHT)
SAYS = dict(few=HINT * 8 + RIGHT, many=HINT * 9 + RIGHT, long=LONG * 8 + RIGHT)
STORMS = dict(hints=(b"", HINT * 1000), after=(RIGHT, HINT * 1000), answers=(RIGHT, RIGHT * 1000), other=(
    b"", b"HTTP/1.1 199 X\\r\\nContent-Length: 5\\r\\n\\r\\n" * 1000))
def score(connection, request):
    how = request.rpartition(b"\\r\\n\\r\\n")[2].decode()
    if how not in STORMS:
        return SAYS.get(how, RIGHT)
    first, more = STORMS[how]
    connection.sendall(first)
    time.sleep(0.1)  # so that what comes now comes on a connection that waits for its next request
    while True:
        connection.sendall(more)
plain.serve(score=score)
"""
DRIP = """
import plain, time
def score(connection, request):
    if b"drip" not in request:
        return plain.answer(plain.RIGHT)
    connection.sendall(plain.head(b"Transfer-Encoding: chunked"))
    while True:
        connection.sendall(b"1\\r\\nx\\r\\n")
        time.sleep(0.1)
plain.serve(score=score)
"""


async def asked(device, name):
    """The connection of a client that has posted this name."""
    reader, writer = await device.connect()
    head = f"POST /evil/score HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine\r\nContent-Length: {len(name)}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n{name}".encode())
    return reader, writer


async def exchanged(device, name, *, for_s=5.0):
    """What a client reads that posts this name: up to the gateway's end, or the end of the time."""
    reader, writer = await asked(device, name)
    got = b""
    try:
        async with asyncio.timeout(for_s):
            while some := await reader.read(1 << 16):
                got += some
    except TimeoutError:
        pass
    finally:
        writer.close()
    return got


async def serving(device, script):
    await device.attacked(script)
    await device.phase(Phase.COMMITTED, slot="evil")


def fields(got):
    start, _, body = got.partition(b"\r\n\r\n")
    first, *lines = start.decode().split("\r\n")
    return first, sorted(tuple(line.lower().split(": ", 1)) for line in lines), body


async def test_nobody_but_the_gateway_says_who_answered(device):
    """Whatever marks of the gateway's a module sets, in whichever case and place, a client reads the gateway's own once
    each; and what is sent behind an answer reaches no other client."""
    await serving(device, SAYS.format(says=FORGED))
    for name in ("marks", "more", "twice", "trailer", "nominated", "another"):
        first, told, body = fields(await exchanged(device, name))

        assert first == "HTTP/1.1 200 OK"
        assert [one for one in told if one[0].startswith("x-")] == [
            ("x-edgefleet-module", "acme/evil:1"),
            ("x-edgefleet-provider", "cpuexecutionprovider"),
            ("x-edgefleet-served-by", "local"),
            ("x-request-id", "mine"),
        ], name
        assert RIGHT in body
        assert b"next client" not in body
        assert (await device.ask()).body == RIGHT
    await device.others_answer()


async def test_what_two_readers_could_read_in_two_ways_reaches_no_client(device):
    """Lengths, chunks, names and words that are no plain HTTP: a client gets a 502 in the gateway's words, and the
    next one the module's proper answer."""
    await serving(device, SAYS.format(says=NO_HTTP))
    names = [line.strip().partition("=")[0] for line in NO_HTTP.splitlines()[1:-1]]
    assert len(names) == 25
    for name in names:
        first, told, body = fields(await exchanged(device, name))

        assert first == "HTTP/1.1 502 Bad Gateway", name
        assert ("x-request-id", "mine") in told
        message = json.loads(body)["message"]
        assert message.isprintable(), name
        assert len(message) < 400, name
        assert b"\x1b" not in body
        assert (await device.ask()).body == RIGHT, name
    await device.others_answer()


async def test_no_other_protocol_is_switched_to(device):
    """101 from a module is a 502 to its client, and what the client says next never reaches the module."""
    await serving(device, SWITCH)
    reader, writer = await device.connect()
    writer.write(b"POST /evil/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n")
    writer.write(b"Upgrade: raw\r\nConnection: upgrade\r\n\r\nswitch")
    answer = await reader.readuntil(b"}")
    writer.write(b"through the tunnel\r\n\r\n")
    await device.until(lambda: "got" in device.logs())
    writer.close()

    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"101" in answer
    assert b"pgrade: raw" not in answer
    assert "got b''" in device.logs()
    assert (await device.ask()).body == RIGHT
    await device.others_answer()


async def test_an_endless_answer_costs_the_gateway_no_memory(device):
    """Fields, interim answers, a body, chunks or trailers without end: refused, or passed on for as long as the client
    reads; meanwhile other slots answer, and when the client leaves, so does the gateway."""
    await serving(device, ENDLESS)
    for how, begins in {
        "fields": b"HTTP/1.1 502 ",
        "interim": b"HTTP/1.1 502 ",
        "body": b"HTTP/1.1 200 ",
        "chunks": b"HTTP/1.1 200 ",
        "trailers": b"HTTP/1.1 ",
    }.items():
        with Peak(device.program.pid) as peak:
            reader, writer = await asked(device, how)
            try:
                async with asyncio.timeout(0.3):
                    got = await reader.read(1000)
            except TimeoutError:
                got = b""
            # It reads nothing more, so it is to be sent nothing more.
            await asyncio.sleep(0.3)
            await device.others_answer()
            writer.close()
            await device.until(lambda how=how: f"{how} ended" in device.logs())

        assert got.startswith(begins), how
        assert peak.grown_mib < 32, how
    assert (await device.ask()).body == RIGHT


def cpu_s(pid):
    """Seconds that a process has computed, proc(5)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def test_a_storm_of_interim_answers_is_refused_and_counted(device):
    """A few are skipped, more are a 502 that says so; an endless storm of them, before an answer or on the connection
    that is kept behind one, costs the gateway a fraction of a second, no memory, and counts as the module's error."""
    await serving(device, STORM)
    assert fields(await exchanged(device, "few"))[2] == RIGHT
    for name, words in {"many": "more than 8 interim answers", "long": "no answer yet"}.items():
        first, _, body = fields(await exchanged(device, name))
        assert first == "HTTP/1.1 502 Bad Gateway", name
        assert words in json.loads(body)["message"], name

    before = await counted_errors(device)
    with Peak(device.program.pid) as peak:
        began = cpu_s(device.program.pid)
        for storm in ("hints", "after", "answers", "other"):
            status = (await device.ask(body=storm.encode())).status
            assert status == (502 if storm in {"hints", "other"} else 200), storm
            await asyncio.sleep(0.5)  # long enough for a storm that goes on to be felt
            await device.others_answer()
        assert cpu_s(device.program.pid) - began < stretched(1.0)
    assert peak.grown_mib < 32
    assert await counted_errors(device) - before == 2
    assert (await device.ask()).body == RIGHT


async def counted_errors(device):
    """What the gateway has counted of the hostile module."""
    told = await asyncio.to_thread(answering.gateway, device.gateway)
    return counted(told)[device.placed().instance].errors


async def test_dripped_answers_take_no_places_but_their_own_slots(device):
    """A hundred clients that a module answers a byte at a time keep nobody waiting who asks another slot; and they have
    their bytes as they come."""
    await serving(device, DRIP)
    clients = [asyncio.create_task(exchanged(device, "drip", for_s=2.0), name=f"client-{n}") for n in range(100)]
    await asyncio.sleep(0.5)

    began = time.monotonic()
    for _ in range(5):
        await device.others_answer()
    assert time.monotonic() - began < 2
    answers = await asyncio.gather(*clients)
    # As many as one slot works on at a time; the others wait behind them.
    assert sum(b"1\r\nx\r\n1\r\nx\r\n" in got for got in answers) == 64
    assert (await device.ask()).body == RIGHT
