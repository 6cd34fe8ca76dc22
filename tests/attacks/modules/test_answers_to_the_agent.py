"""What a module answers to the agent: slow, endless, broken or huge, before its proof and long after it.

The agent is judged by the other slot, which it must look after meanwhile, by its own memory, and by what it reports.
"""

import time

import pytest

from modules.protocol.phases import Phase
from tests.attacks.modules.memory import Peak

# Honest until it is turned, then its health comes a byte at a time and never ends.
DRIP = """
import plain, time
def drip(connection, request):
    if {when}:
        for byte in plain.head(b"X: " + b"y" * 10000):
            connection.sendall(bytes([byte]))
            time.sleep(0.1)
    return plain.answer(b"{{}}")
plain.serve(health=drip)
"""
# Each look is answered by the next of these.
ENDLESS = """
import itertools, plain
def fields(connection, request):
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n")
    while True:
        connection.sendall(b"X: y\\r\\n" * 10000)
def line(connection, request):
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nX: ")
    while True:
        connection.sendall(b"y" * 65536)
def interim(connection, request):
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\\r\\n\\r\\n" * 1000)
def body(connection, request):
    connection.sendall(plain.head())
    while True:
        connection.sendall(b"y" * 65536)
def chunks(connection, request):
    connection.sendall(plain.head(b"Transfer-Encoding: chunked"))
    while True:
        connection.sendall(b"10000\\r\\n" + b"y" * 65536 + b"\\r\\n")
ways = itertools.cycle((fields, line, interim, body, chunks))
def next_way(connection, request):
    way = next(ways)
    print(way.__name__)
    return way(connection, request)
plain.serve({what}=next_way)
"""
# Every one of them says "ready" to a reader that is not strict.
NONSENSE = """
import itertools, plain
def chunked(size, rest=b"\\r\\n0\\r\\n\\r\\n"):
    return plain.head(b"Transfer-Encoding: chunked") + size + b"\\r\\n" + plain.STATUS + rest
exact = b"%x" % len(plain.STATUS)
answers = [
    chunked(b"-1"), chunked(b"+" + exact), chunked(b"0x" + exact), chunked(exact + b" junk"), chunked(b""),
    chunked(b"f" * 9), chunked(b"ffffffff"), chunked(exact, b"junk\\r\\n0\\r\\n\\r\\n"),
    chunked(exact, b"\\r\\n-0\\r\\n\\r\\n"), chunked(b"1_0"), chunked("\\u0663".encode()),
    plain.head(b"Transfer-Encoding: chunked", b"Content-Length: 1") + plain.STATUS,
    plain.head(b"Content-Length: -1") + plain.STATUS,
    plain.head(b"Content-Length: +%d" % len(plain.STATUS)) + plain.STATUS,
    plain.head(b"Content-Length: 1", b"Content-Length: %d" % len(plain.STATUS)) + plain.STATUS,
    plain.head(b"Content-Length: 9999999999999") + plain.STATUS,
    plain.head(b"Upgrade: docker", first=b"HTTP/1.1 101 Switching Protocols") + plain.answer(plain.STATUS),
    b"HTTP/1.1 100 Continue\\r\\n\\r\\n" + plain.answer(plain.STATUS),
    plain.answer(plain.STATUS).replace(b"HTTP/1.1", b"HTTP/9.9"),
    plain.answer(plain.STATUS).replace(b"\\r\\nContent-Length", b"\\r\\n Content-Length"),
]
ways = itertools.chain(answers, itertools.repeat(None))
def next_way(connection, request):
    way = next(ways)
    print("all said" if way is None else "next")
    return way
plain.serve(status=next_way)
"""
STATUSES = {
    "megabyte": b'{"ready": true, "provider_in_use": "' + b"x" * (1 << 20) + b'"}',
    "long word": b'{"ready": true, "provider_in_use": "' + b"x" * 300 + b'"}',
    "many words": b'{"ready": true, "provider_in_use": "' + b", ".join([b"CPUExecutionProvider"] * 2000) + b'"}',
    "deep": b'{"ready": true, "x": ' + b"[" * 60000 + b"]" * 60000 + b"}",
    "no known letters": b'{"ready": true, "provider_in_use": "\xff\xfe"}',
    "terminal's words": b'{"ready": true, "provider_in_use": "\\u001b[2J\\u202eCPU\\nExecutionProvider"}',
}
# Says this of itself: at once, or from the first start after it was turned.
STATUS = """
import plain
plain.serve(status=plain.answer({said} if {when} else plain.STATUS))
"""


def status(said, *, when="True"):
    """Long texts are made in the container: a script is no place for a megabyte."""
    word = max(said.split(b'"'), key=len)
    return STATUS.format(said=repr(said.replace(word, b"@")) + f".replace(b'@', {shortened(word)})", when=when)


def shortened(word):
    return f"{word[:1]!r} * {len(word)}" if len(set(word)) == 1 else repr(word)


@pytest.mark.long
async def test_a_dripped_answer_takes_no_longer_than_a_start_may(device):
    """A module that answers a byte at a time is given up when its time to be ready is over, not when it ends."""
    await device.attacked(DRIP.format(when="True"), ready_within_s=1.0)
    began = time.monotonic()
    await device.ends(Phase.REVERTED, "not-ready", "not ready within 1 s")

    assert time.monotonic() - began < 3
    await device.others_answer()


@pytest.mark.parametrize("device", [3.0], indirect=True, ids=["probe of 3 s"])
async def test_a_module_that_drips_later_holds_up_nobody(device):
    """While one slot's health comes a byte at a time, another's killed module is back as soon as ever."""
    release = await device.attacked(DRIP.format(when="plain.turned()"))
    await device.phase(Phase.COMMITTED, slot="evil")
    device.turn(release)
    first = device.placed("other").instance
    device.container("other").kill()

    began = time.monotonic()
    # Less than one probe takes of the other: nobody waited for that.
    await device.until(lambda: device.placed("other").instance != first and device.placed("other").since > 0)
    assert time.monotonic() - began < 3
    await device.others_answer()


@pytest.mark.parametrize(
    "what", ["status", *(pytest.param(one, marks=pytest.mark.long) for one in ("health", "score"))]
)
async def test_an_endless_answer_costs_the_agent_no_memory(device, what):
    """Fields, a line, interim answers, a body or chunks without end, to whichever question: cut, and reverted."""
    with Peak() as peak:
        await device.attacked(ENDLESS.format(what=what), ready_within_s=2.0)
        code, words = ("not-ready", "stopped answering") if what == "score" else ("not-ready", "not ready within 2 s")
        await device.ends(Phase.REVERTED, code, words)

    assert peak.grown_mib < 48
    await device.others_answer()


@pytest.mark.long
async def test_an_answer_of_no_clear_length_is_no_answer(device):
    """Chunks of -1 bytes and other nonsense, two lengths, another protocol: none is taken for a ready module."""
    with Peak() as peak:
        await device.attacked(NONSENSE, ready_within_s=3.0)
        await device.until(lambda: device.placed() and "all said" in device.logs())
        await device.ends(Phase.REVERTED, "not-ready", "not ready within 3 s")

    assert peak.grown_mib < 16
    await device.others_answer()


@pytest.mark.parametrize("said", STATUSES.values(), ids=STATUSES)
async def test_a_status_that_nobody_knows_is_refused_at_the_start(device, said):
    """Huge, deep, long or made for terminals: the module is reverted, and the report stays one that a server reads."""
    await device.attacked(status(said), ready_within_s=1.0)
    told = await device.ends(Phase.REVERTED, "not-ready", "not ready within|unknown execution provider|cannot be read")

    assert len(told.reason.message) <= 2000
    await device.others_answer()


@pytest.mark.parametrize(
    ("prove", "said"), [pytest.param("samples", "many words", marks=pytest.mark.long), ("ready-only", "megabyte")]
)
async def test_a_status_that_nobody_knows_is_refused_at_a_restart(device, prove, said):
    """A module that was committed, proved or not, and says it when it is started again, is no module that answers: its
    slot says why, the gateway says that nobody serves, and every report stays one that a server reads."""
    release = await device.attacked(status(STATUSES[said], when="plain.turned()"), prove=prove, ready_within_s=1.0)
    await device.phase(Phase.COMMITTED, slot="evil")
    device.turn(release)
    device.container().kill()

    await device.until(lambda: device.restarts() > 1)
    told = device.reported()

    assert (told.phase, told.reason.code, told.current.state) == (Phase.COMMITTED, "not-ready", "restarting")
    assert (await device.ask()).status == 503
    await device.others_answer()
