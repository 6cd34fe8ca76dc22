"""The server's session with a real broker."""

import asyncio
import contextlib

import pytest

from fleet.broker import BrokerLink, tls_context
from fleet.folder import Folder
from fleet.setup import SERVICE, initialise
from modules.protocol.topics import Topics
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")
MESSAGES = 300


@pytest.fixture
def running(tmp_path):
    data = Folder(tmp_path / "data")
    initialise(data, lambda: 0.0)
    with broker(tmp_path / "broker", data) as started:
        yield data, started


def link(data, started, identifier):
    tls = tls_context(ca=data.ca, certificate=data.service, key=data.key(data.service))
    topics = Topics(started.prefix)
    return BrokerLink(host=started.host, port=started.service_port, tls=tls, topics=topics, identifier=identifier)


async def test_the_receipts_of_a_batch_are_no_trouble(running, caplog):
    """A thousand at once: each is sent, and none is worth a line of the log."""
    ours, connected = link(*running, SERVICE), asyncio.Event()

    async def nothing(*_):
        pass

    task = asyncio.create_task(ours.run(connected.set, nothing))
    async with asyncio.timeout(stretched(60)):
        await connected.wait()
        topic = f"{running[1].prefix}/dev-a/down/ack"
        await asyncio.gather(*(ours.publish(topic, b"%d" % number, qos=1) for number in range(1000)))
    task.cancel()
    await asyncio.wait([task])
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


async def test_what_cannot_be_taken_yet_waits_with_the_broker(running):
    """While nobody takes messages none is read, so that a flood fills no memory; afterwards all of them arrive."""
    ours, sender = link(*running, SERVICE), link(*running, "sender")
    connected, gate, arrived = asyncio.Event(), asyncio.Event(), []

    async def take(topic, payload):
        if not gate.is_set():
            with ours.unread():
                await gate.wait()
        arrived.append((topic.device, payload))

    async def nothing(*_):
        pass

    async with asyncio.timeout(stretched(60)), asyncio.TaskGroup() as group:
        tasks = [group.create_task(ours.run(connected.set, take)), group.create_task(sender.run(lambda: None, nothing))]
        await connected.wait()
        while sender.state != "connected":  # noqa: ASYNC110 - another task brings it about
            await asyncio.sleep(0.01)
        for number in range(MESSAGES):
            await sender.publish(f"{running[1].prefix}/dev-a/up/report", b"%d" % number * 500, qos=1)
        assert len(ours._client.messages) < 30
        assert not arrived
        gate.set()
        while len(arrived) < MESSAGES:  # noqa: ASYNC110 - another task brings it about
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
    assert [payload for _, payload in arrived] == [b"%d" % number * 500 for number in range(MESSAGES)]
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
