"""Acknowledgements go out apart from the taking in."""

import asyncio
import time

import pytest

from fleet.acks import Acks
from fleet.inbox import Inbox
from fleet.ingest import Receipt
from fleet.mishaps import Mishaps
from fleet.said import Inbound
from fleet.setup import SERVICE
from modules import canonical
from modules.errors import LinkLost
from modules.names import DeviceId
from modules.protocol.report import STATUS_LIMIT, Ack
from modules.protocol.topics import Topics
from tests.fleet.test_broker_link import nothing, running, running_link  # noqa: F401 - a fixture
from tests.parts.pace import stretched

TOPICS = Topics()
DEVICES = 3000


class SlowLink:
    """A broker that takes messages when a test lets it; ``gone`` as long as there is none."""

    def __init__(self):
        self.taken, self.gone = [], False
        self.open = asyncio.Event()

    async def publish_all(self, messages):
        if self.gone:
            raise LinkLost("no session", element="broker")
        await self.open.wait()
        self.taken += messages


def said(message):
    topic, payload = message
    return TOPICS.parse(topic).device, canonical.decode(payload, Ack, limit=STATUS_LIMIT, what="ack").report


async def until(condition):
    async with asyncio.timeout(stretched(20)):
        while not condition():  # noqa: ASYNC110 - another task brings it about
            await asyncio.sleep(0.005)


async def test_of_each_device_the_newest_is_sent():
    """While the broker takes none, one waits for each device and no more; none that waits is lost."""
    link = SlowLink()
    acks = Acks(link, TOPICS, Mishaps(time.time))
    task = asyncio.create_task(acks.run())
    acks.add([Receipt(DeviceId("dev-a"), 1)])
    await asyncio.sleep(0.01)
    for number in range(2, 100):
        acks.add([Receipt(DeviceId("dev-a"), number), Receipt(DeviceId("dev-b"), number)])
    assert len(acks._waiting) == 2
    link.open.set()
    await until(lambda: len(link.taken) == 3)
    task.cancel()
    assert [said(one) for one in link.taken] == [("dev-a", 1), ("dev-a", 99), ("dev-b", 99)]


async def test_what_a_lost_session_did_not_take_is_no_trouble():
    """The reports come again with the next session, and so do their acknowledgements."""
    link, mishaps = SlowLink(), Mishaps(time.time)
    link.gone = True
    link.open.set()
    acks = Acks(link, TOPICS, mishaps)
    task = asyncio.create_task(acks.run())
    acks.add([Receipt(DeviceId("dev-a"), 1)])
    await until(lambda: not acks._waiting)
    await asyncio.sleep(0.01)
    link.gone = False
    acks.add([Receipt(DeviceId("dev-a"), 2)])
    await until(lambda: link.taken)
    task.cancel()
    assert [said(one) for one in link.taken] == [("dev-a", 2)]
    assert mishaps.counts == {}


@pytest.mark.needs("mosquitto")
async def test_a_flood_of_reports_waits_for_no_receipt(running):  # noqa: F811
    """More wait than the server takes at once, so that its socket is not read for moments: it never waits for itself.

    The broker's receipts come by that socket. A server that waited for them would stand still until it gave up.
    """
    prefix = running[1].prefix
    names = [DeviceId(f"dev-{number:04}") for number in range(DEVICES)]
    inbox, acked, committed = Inbox(waiting=50), set(), []

    async def take(topic, payload):
        await inbox.put(Inbound(topic.device, "report", payload))

    async def listen(topic, payload):
        acked.add(topic.device)

    async with running_link(running, SERVICE, take) as ours, running_link(running, "sender", nothing) as sender:
        acks = Acks(ours, Topics(prefix), Mishaps(time.time))

        async def ingest():
            while True:
                batch = await inbox.batch(20)
                await asyncio.sleep(0.002)
                committed.extend(one.device for one in batch)
                acks.add(Receipt(one.device, 1) for one in batch)

        tasks = [asyncio.create_task(acks.run()), asyncio.create_task(ingest())]
        await sender.publish_all([(f"{prefix}/{name}/up/report", b"x" * 1000) for name in names])
        # Half of what the link waits for one receipt.
        async with asyncio.timeout(stretched(15)):
            while len(committed) < DEVICES or acks._waiting:  # noqa: ASYNC110 - another task brings it about
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert committed == names
