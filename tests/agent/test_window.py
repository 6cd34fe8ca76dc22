"""The window follows the link: full on a quick one, two blocks on a slow one, and patient with each."""

import asyncio
from contextlib import AsyncExitStack

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

    async def silence(self, *, others: int = 0, shared: bool = False) -> None:
        """A request that gets no answer, while others get so many, each just before it is given up."""
        async with self.window.flight(1) as flight:
            flight.shared = shared
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
        pytest.param(0.0, 1.5, 2, id="one in less than two seconds, two in more"),
        pytest.param(0.5, 8.2, 2, id="64 kbit/s"),
        pytest.param(1.0, 55.0, 1, id="9.6 kbit/s"),
    ],
)
async def test_the_window_holds_two_seconds_of_the_link(way_s, gap_s, blocks):
    """After a few requests, as much is under way as the link carries in about two seconds, whatever its latency."""
    link = Link(way_s=way_s, gap_s=gap_s)
    await link.fetch(3)

    assert link.window.blocks == blocks
    assert link.window.request == {16: 8, 8: 4, 4: 2, 2: 2, 1: 1}[blocks], "a request asks for half of it, two at least"


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


async def given_up(flight):
    """Whether its next block is given up at once; a clock that stands still brings none."""
    waiting = asyncio.create_task(flight.next())
    await asyncio.wait([waiting], timeout=0.1)
    if not waiting.done():
        waiting.cancel()
        return False
    return isinstance(waiting.exception(), TimeoutError)


async def test_a_block_is_given_up_when_its_time_is_over():
    """At that very moment, and not before: of a window that knows nothing, three times the setting."""
    link = Link()
    link.window = Window(least_s=0.2, now=lambda: link.time)
    async with link.window.flight(1) as flight:
        link.time += 0.59
        assert not await given_up(flight)
        link.time = flight._last + link.window.patience_s
        assert await given_up(flight)


async def test_a_lost_block_is_waited_for_four_times_as_long_at_most():
    """While others are answered, one's own request may stand behind theirs, but not for ever."""
    link = Link()
    async with link.window.flight(1) as flight:
        for _ in range(4):
            link.time += 14
            link.arrive(99, 0)
        assert not await given_up(flight)
        link.time += 4
        link.arrive(99, 0)
        assert await given_up(flight)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_request_is_not_given_up_while_its_blocks_come(shared):
    """However many there are, and however they come: from each of them on the next one has its time."""
    link = Link()
    async with link.window.flight(8) as flight:
        flight.blob, flight.shared, flight.waits_for = "sha256:1", shared, set(range(60))
        for number in range(60):
            link.time += 14
            if number > 55:
                assert not await given_up(flight)
            if shared:
                link.window.share("sha256:1", wire.Shared(number, 1 << 30, b"x"))
            else:
                link.arrive(flight.request, number, b"x")
            assert (await flight.next()).number == number


async def test_patience_is_that_of_tcp():
    """As RFC 6298 has it: the usual time and four times its spread, which follow by an eighth and by a quarter."""
    link = Link()
    link.window.came(8.0)
    assert link.window.patience_s == 8 + 4 * 4
    link.window.came(16.0)
    assert link.window.patience_s == 9 + 4 * 5


async def test_patience_has_an_end():
    """A thousand times as long after many silences, and five minutes at most: a link that is back is found again."""
    for least_s, most in ((0.01, 0.03 * 1024), (5.0, 300.0)):
        window = Window(least_s=least_s)
        for _ in range(30):
            window._lost()
        assert window.patience_s == pytest.approx(most)


async def test_three_of_five_requests_say_how_quick_a_link_is():
    """Two quick ones may be bursts; with the third it is the link."""
    link = Link(gap_s=8.2)
    await link.fetch(8)
    link.gap_s = 0.0
    await link.fetch(2)
    assert link.window.blocks == 2
    await link.fetch(1)
    assert link.window.blocks == 16


async def test_a_silence_halves_the_window_and_what_was_measured_is_forgotten():
    """It may be another link by now; of what it carries nothing is known until blocks come again."""
    link = Link(gap_s=0.001)
    assert not link.window.measured
    await link.fetch(3)
    assert (link.window.blocks, link.window.measured) == (16, True)
    with pytest.raises(TimeoutError):
        await link.silence()
    assert (link.window.blocks, link.window.request, link.window.measured) == (8, 4, False)


async def test_one_block_alone_can_say_how_slow_a_link_is():
    """Told how long a block took, the window is as small, and as patient, as that link asks for."""
    link = Link()
    link.window.took(30.0)
    assert (link.window.blocks, link.window.measured, link.window.patience_s) == (1, True, 30 + 4 * 15)


async def test_short_blocks_say_nothing_of_the_link():
    """A blob's last block, and answers that are none, come quicker than a full one."""
    link = Link()
    async with link.window.flight(2) as flight:
        for number in range(2):
            link.time += 3
            link.arrive(flight.request, number, b"x" * (BLOCK // 2))
    assert (link.window.patience_s, link.window.measured) == (15, False)


async def test_blocks_that_wait_for_other_devices_say_nothing_of_the_link():
    """A broadcast has its own pace, when its blocks come and when they do not."""
    link = Link()
    async with link.window.flight(2) as flight:
        flight.shared = True
        for number in range(2):
            link.time += 3
            link.arrive(flight.request, number)
    assert (link.window.patience_s, link.window.measured) == (15, False)
    with pytest.raises(TimeoutError):
        await link.silence(shared=True)
    assert (link.window.patience_s, link.window.blocks) == (15, 2)


async def begins(window, *flights):
    """Which of these requests, by their numbers, need not wait for room; each is a size and how it is asked for."""
    begun = []

    async def ask(number, blocks, how):
        async with window.flight(blocks, **how):
            begun.append(number)
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(ask(number, *one)) for number, one in enumerate(flights)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    now = list(begun)
    await asyncio.gather(*tasks)
    return now


async def test_a_window_is_filled_to_its_last_block():
    """As many blocks as it holds are under way, and not one more; one that is apart, or urgent, waits for nobody."""
    window = Link().window
    assert await begins(window, (1, {}), (1, {}), (1, {})) == [0, 1]
    assert await begins(window, (2, {"apart": True}), (2, {}), (1, {})) == [0, 1]
    assert await begins(window, (2, {}), (2, {"apart": True}), (2, {"urgent": True})) == [0, 1, 2]
    assert await begins(window, (9, {}), (1, {})) == [0], "what alone is larger than the window goes alone"


async def test_a_broadcast_block_reaches_who_waits_for_it_once():
    """Each request for this block of this blob, and no other; and it says that the link is alive."""
    link = Link()
    window, shared = link.window, wire.Shared(3, 1 << 30, b"data")
    async with window.flight(1) as mine, window.flight(1, urgent=True) as other, window.flight(1, urgent=True) as late:
        for flight, blob, numbers in ((mine, "sha256:1", {3, 4}), (other, "sha256:2", {3}), (late, "sha256:1", {4})):
            flight.blob, flight.waits_for = blob, numbers
        link.time += 14
        window.share("sha256:1", shared)
        assert await mine.next() == wire.Block(mine.request, wire.OK, 3, 1 << 30, b"data")
        assert (mine.waits_for, window.heard) == ({4}, link.time)
        window.share("sha256:1", shared)
        assert [flight._blocks.empty() for flight in (mine, other, late)] == [True, True, True]


async def test_a_request_names_the_others_that_wait_for_the_same_broadcast():
    """Those of its blob that take part and are under way, eight at most, which is what a message holds."""
    window = Link().window
    async with window.flight(1) as mine:
        mine.blob = "sha256:1"
        async with AsyncExitStack() as stack:
            flights = [await stack.enter_async_context(window.flight(1, urgent=True)) for _ in range(11)]
            for flight in flights:
                flight.blob, flight.shared = "sha256:1", True
            flights[0].blob, flights[1].shared = "sha256:2", False
            mine.shared = True
            assert window.others(mine) == tuple(flight.request for flight in flights[2:10])
        assert window.others(mine) == ()
