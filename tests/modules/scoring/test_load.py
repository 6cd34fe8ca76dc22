"""Many, slow, large, broken and vanishing clients at once: nothing breaks, memory stays flat, refusals say why."""

import time
from pathlib import Path

import pytest

from tests.parts.rough_clients import CLIENTS, GOOD, GRAPH_CASES, LIMITS, RoughClients, close, connect, many_files

# Pools and the allocator's arenas grow to what the worst moment needs, which takes a few rounds to come by.
SETTLING = 6
# Seconds of rounds whose second half is compared with the first. `python -m tests.benchmarks.leak` looks for ten
# minutes, at a server with a script too.
COMPARED_S = 60


@pytest.fixture(scope="module")
def server(start, relu):
    with many_files():
        yield start("--model", relu, EDGEFLEET_LIMITS=LIMITS).ready()


def rss(server):
    fields = Path(f"/proc/{server.process.pid}/status").read_text().split("VmRSS:")[1]
    return int(fields.split()[0])


async def largest(server, clients):
    """Return the largest RSS after a round, in KiB: what a large body took is given back at some, and at some not."""
    sizes, ends = [], time.monotonic() + COMPARED_S / 2
    while time.monotonic() < ends:
        await clients.round()
        sizes.append(rss(server))
    return max(sizes)


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_under_load(server):
    """After rounds of all of it the server stands, holds nothing, and its worst round grows no more."""
    clients = RoughClients(server.socket, GRAPH_CASES)
    for _ in range(SETTLING):
        await clients.round()

    before, after = await largest(server, clients), await largest(server, clients)

    assert server.process.poll() is None
    assert after <= 1.05 * before
    text = server.ask("/metrics").body.decode()
    assert "edgefleet_scoring_held_bytes 0\n" in text
    assert "edgefleet_scoring_errors_total 0\n" in text
    assert "Traceback" not in server.log


async def test_a_thousand_idle_connections(server):
    """A thousand open connections keep nobody from being answered, and all are counted."""
    writers = [(await connect(server.socket))[1] for _ in range(CLIENTS)]
    assert server.ask(body=GOOD).json == {"y": [[1, 0, 2, 0]]}
    assert f"edgefleet_scoring_connections {CLIENTS + 1}\n" in server.ask("/metrics").body.decode()
    for writer in writers:
        await close(writer)
