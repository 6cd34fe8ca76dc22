"""Where messages of devices wait for the next batch."""

import asyncio

import pytest

from fleet.inbox import ANSWERS, Inbox
from fleet.said import ANSWER, Inbound
from modules.names import DeviceId
from tests.parts.pace import stretched


def said(device, number, kind="report"):
    return Inbound(DeviceId(device), kind, b"%d" % number)


async def put(inbox, *messages):
    async with asyncio.timeout(stretched(5)):
        return [await inbox.put(one) for one in messages]


async def test_messages_come_out_as_they_came_in():
    """The oldest first, at most so many at once, the rest later."""
    inbox, messages = Inbox(), [said(f"dev-{number % 3}", number) for number in range(10)]
    await put(inbox, *messages)
    assert await inbox.batch(4) + await inbox.batch(100) == messages
    assert len(inbox) == 0


async def test_of_a_flood_the_newest_are_kept_and_nobody_else_loses_any():
    """A device that floods takes the place of its own older messages of the same kind, and of no others."""
    inbox = Inbox(waiting=10, of_one_kind=3)
    others = [said("dev-b", 1), said("dev-a", 1, "status")]
    assert await put(inbox, *others) == [True, True]
    flood = [said("dev-a", number) for number in range(100)]
    assert await put(inbox, *flood) == [True] * 3 + [False] * 97
    assert await inbox.batch(100) == [*others, *flood[-3:]]


async def test_of_many_answers_the_first_are_kept():
    """They are parts that follow each other: the largest result fits, and what does not comes again."""
    inbox = Inbox(waiting=1000, of_one_kind=3)
    answers = [said("dev-a", number, ANSWER) for number in range(ANSWERS + 10)]
    assert await put(inbox, *answers) == [True] * ANSWERS + [False] * 10
    assert await put(inbox, said("dev-a", 1), said("dev-b", 1, ANSWER)) == [True, True]
    assert await inbox.batch(ANSWERS) == answers[:ANSWERS]
    assert await put(inbox, answers[-1]) == [True]


async def test_a_full_inbox_lets_nobody_in_until_a_batch_was_taken():
    """So that what devices send waits with the broker; a device at its own bound still replaces its oldest."""
    inbox = Inbox(waiting=4, of_one_kind=2)
    await put(inbox, *(said("dev-a", number) for number in range(2)), *(said("dev-b", number) for number in range(2)))
    waiting = asyncio.create_task(inbox.put(said("dev-c", 1)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await asyncio.shield(waiting)
    assert await put(inbox, said("dev-a", 2)) == [False]
    assert await inbox.batch(1) == [said("dev-a", 1)]
    assert await waiting
    assert await inbox.batch(9) == [said("dev-b", 0), said("dev-b", 1), said("dev-a", 2), said("dev-c", 1)]


async def test_an_empty_inbox_waits_for_the_first_message():
    """A batch has at least one."""
    inbox = Inbox()
    batch = asyncio.create_task(inbox.batch(5))
    await asyncio.sleep(0)
    assert not batch.done()
    await inbox.put(said("dev-a", 1))
    assert await batch == [said("dev-a", 1)]
