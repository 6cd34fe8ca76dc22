"""The window follows the link: full on a quick one, two blocks on a slow one, and patient with each."""

import asyncio

import pytest

from agent.window import Window
from modules.digests import BLOCK
from modules.protocol import blobs as wire

FULL = b"x" * BLOCK


class Link:
    """A window with a clock of its own; ``way_s`` is the time to the server and back, ``gap_s`` that of one block."""

    def __init__(self, *, way_s: float = 0.0, gap_s: float = 0.0) -> None:
        self.way_s, self.gap_s = way_s, gap_s
        self.time = 1000.0
        self.window = Window(least_s=5.0, now=lambda: self.time)

    def arrive(self, request: int, number: int, data: bytes = FULL) -> None:
        self.window.put(wire.Block(request, wire.OK, number, 1 << 30, data))

    async def fetch(self, times: int = 1) -> None:
        """Whole requests one after the other, as large as the window has them."""
        for _ in range(times):
            async with self.window.flight(self.window.request) as flight:
                self.time += self.way_s
                for number in range(self.window.request):
                    self.time += self.gap_s
                    self.arrive(flight.request, number)
                    assert (await flight.next()).number == number

    async def silence(self, *, others: int = 0) -> None:
        """A request that gets no answer, while others get so many, each just before it is given up."""
        async with self.window.flight(1) as flight:
            for _ in range(others):
                self.time += 14
                self.arrive(99, 0)
            self.time += 0 if others else 100
            await flight.next()


@pytest.mark.parametrize(
    ("way_s", "gap_s", "blocks"),
    [
        pytest.param(0.001, 0.001, 16, id="a local network"),
        pytest.param(0.6, 0.05, 16, id="10 Mbit/s over a satellite"),
        pytest.param(2.5, 0.05, 16, id="10 Mbit/s, very far away"),
        pytest.param(0.0, 0.125, 16, id="sixteen blocks in just two seconds"),
        pytest.param(0.0, 0.25, 8, id="eight in just two seconds"),
        pytest.param(0.05, 0.26, 4, id="2 Mbit/s"),
        pytest.param(0.0, 10.0, 2, id="a block in just ten seconds"),
        pytest.param(0.0, 10.5, 1, id="a little less"),
        pytest.param(0.1, 0.52, 2, id="1 Mbit/s"),
        pytest.param(0.5, 8.2, 2, id="64 kbit/s"),
        pytest.param(1.0, 55.0, 1, id="9.6 kbit/s"),
    ],
)
async def test_the_window_holds_two_seconds_of_the_link(way_s, gap_s, blocks):
    """After a few requests, as much is under way as the link carries in about two seconds, whatever its latency."""
    link = Link(way_s=way_s, gap_s=gap_s)
    await link.fetch(3)

    assert link.window.blocks == blocks


async def test_the_window_follows_a_link_that_changes():
    """A link that becomes slow gets a small window within a few requests, and the full one back when it recovers."""
    link = Link(gap_s=0.001)
    seen = []
    for gap_s in (0.001, 30.0, 0.001):
        link.gap_s = gap_s
        await link.fetch(8)
        seen.append(link.window.blocks)

    assert seen == [16, 1, 16]


async def test_one_burst_is_not_a_quick_link():
    """Blocks that come at once after a lost packet do not open the window of a slow link."""
    link = Link(way_s=0.5, gap_s=8.2)
    await link.fetch(3)
    link.gap_s = 0.0
    await link.fetch(1)

    assert link.window.blocks == 2


async def test_no_more_is_asked_for_than_the_window_holds():
    """On a slow link the next request waits until the last one is there; an urgent one does not."""
    link = Link(gap_s=8.2)
    await link.fetch(2)
    begun = []

    async def ask(name: str, *, urgent: bool = False) -> None:
        async with link.window.flight(2, urgent=urgent):
            begun.append(name)
            await asyncio.sleep(0.01)

    first, second = asyncio.create_task(ask("first")), asyncio.create_task(ask("second"))
    await asyncio.sleep(0)
    urgent = asyncio.create_task(ask("urgent", urgent=True))
    await asyncio.sleep(0)
    assert begun == ["first", "urgent"]

    await asyncio.gather(first, second, urgent)
    assert begun == ["first", "urgent", "second"]


async def test_who_no_longer_waits_holds_up_nobody():
    """A request that is given up while it waits for room leaves the room to the next."""
    link = Link(gap_s=8.2)
    await link.fetch(2)
    async with link.window.flight(2):
        given_up = asyncio.create_task(link.fetch())
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])

    await link.fetch()


async def test_patience_is_learned_and_doubles_with_silence():
    """A block is waited for as long as blocks take here, with some spread; after each silence twice as long."""
    link = Link(way_s=0.5, gap_s=8.2)
    assert link.window.patience_s == 15
    await link.fetch(8)
    usual = link.window.patience_s
    assert 8.2 < usual < 15

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await link.silence()
    assert link.window.patience_s == pytest.approx(4 * usual)
    assert link.window.blocks == 1

    await link.fetch(8)
    assert link.window.patience_s < 15


async def test_patience_follows_a_link_that_changes():
    """What was usual long ago does not count for ever, neither way."""
    link = Link(gap_s=1.0)
    await link.fetch(4)
    link.gap_s = 8.0
    await link.fetch(40)
    assert link.window.patience_s == pytest.approx(8.0, abs=1.0)

    link.gap_s = 6.0
    await link.fetch(40)
    assert link.window.patience_s == pytest.approx(6.0, abs=1.0)


async def test_a_quick_link_is_not_given_up_at_once():
    """On a quick link a block is still waited for as long as the setting says: the server may be busy."""
    link = Link(gap_s=0.001)
    await link.fetch(8)

    assert link.window.patience_s == 5


async def test_a_block_of_an_earlier_request_is_dropped_but_heard():
    """A late block reaches no later request, and shows that the link is alive."""
    link = Link()
    async with link.window.flight(1) as flight:
        link.time += 14
        link.arrive(flight.request + 7, 0)
        link.time += 14
        link.arrive(flight.request, 3, b"short")

        assert (await flight.next()).number == 3


async def test_while_others_are_answered_the_next_one_is_waited_for():
    """A block of another request says that the link is alive: what was asked for last may stand behind it."""
    link = Link()
    async with link.window.flight(1) as flight:
        link.time += 14
        link.arrive(99, 0)
        link.time += 14
        waiting = asyncio.create_task(flight.next())
        await asyncio.sleep(0.01)
        assert not waiting.done(), "it was given up 28 seconds after it was asked for, 14 after the link's last block"
        link.arrive(flight.request, 3)

        assert (await waiting).number == 3


async def test_a_server_that_answers_others_only_is_not_waited_for():
    """Blocks for other requests keep no lost one waiting for ever."""
    link = Link()
    with pytest.raises(TimeoutError):
        await link.silence(others=6)
