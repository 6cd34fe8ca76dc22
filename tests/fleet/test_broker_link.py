"""The server's session with a real broker."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from types import SimpleNamespace

import paho.mqtt.client as paho
import pytest

from fleet.arrivals import WAITING
from fleet.broker import IN_A_TURN, TOGETHER, BrokerLink, tls_context
from fleet.folder import Folder
from fleet.setup import SERVICE, initialise
from modules.errors import LinkLost
from modules.protocol.topics import Topics
from tests.parts.mosquitto import broker
from tests.parts.pace import stretched

pytestmark = pytest.mark.needs("mosquitto")
MESSAGES = 4000


@pytest.fixture
def running(tmp_path):
    data = Folder(tmp_path / "data")
    initialise(data, time.time)
    with broker(tmp_path / "broker", data) as started:
        yield data, started


def link(data, started, identifier):
    tls = tls_context(ca=data.ca, certificate=data.service, key=data.key(data.service))
    topics = Topics(started.prefix)
    return BrokerLink(host=started.host, port=started.service_port, tls=tls, topics=topics, identifier=identifier)


@asynccontextmanager
async def running_link(running, identifier, take):
    ours, connected = link(*running, identifier), asyncio.Event()
    task = asyncio.create_task(ours.run(connected.set, take))
    try:
        async with asyncio.timeout(stretched(60)):
            await connected.wait()
            yield ours
    finally:
        task.cancel()
        await asyncio.wait([task])


async def nothing(*_):
    pass


async def test_the_receipts_of_a_batch_are_no_trouble(running, caplog):
    """A thousand at once: each is sent, and none is worth a line of the log."""
    async with running_link(running, SERVICE, nothing) as ours:
        topic = f"{running[1].prefix}/dev-a/down/ack"
        await asyncio.gather(*(ours.publish(topic, b"%d" % number, qos=1) for number in range(1000)))
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == []


async def test_many_messages_arrive_in_order_before_the_call_returns(running):
    """The receipt of the last one is everyone's."""
    arrived = []

    async def take(topic, payload):
        arrived.append(payload)

    async with running_link(running, SERVICE, take) as ours, running_link(running, "sender", nothing) as sender:
        topic = f"{running[1].prefix}/dev-a/up/report"
        await sender.publish_all([(topic, b"%d" % number) for number in range(3000)])
        await ours.publish(topic, b"end", qos=1)
        while arrived[-1:] != [b"end"]:  # noqa: ASYNC110 - another task brings it about
            await asyncio.sleep(0.01)
    assert arrived == [b"%d" % number for number in range(3000)] + [b"end"]


async def test_others_have_their_turn_while_many_messages_are_written(running, monkeypatch):
    """A page that is asked for meanwhile does not wait until all of them are on their way."""
    turn, written = 0, Counter()
    plain = paho.Client.publish

    def publish(client, *given, **more):
        written[turn] += 1
        return plain(client, *given, **more)

    monkeypatch.setattr(paho.Client, "publish", publish)
    async with running_link(running, "sender", nothing) as sender:
        topic = f"{running[1].prefix}/dev-a/up/report"
        sending = asyncio.create_task(sender.publish_all([(topic, b"x")] * (TOGETHER - 1)))
        while not sending.done():
            await asyncio.sleep(0)
            turn += 1
        await sending
    assert sum(written.values()) == TOGETHER - 1
    assert max(written.values()) <= IN_A_TURN


async def test_a_link_without_a_session_says_so(tmp_path):
    """Many messages are refused as one is, and nothing waits for a broker that is not there."""
    data = Folder(tmp_path / "data")
    initialise(data, time.time)
    ours = link(data, SimpleNamespace(prefix="edgefleet", host="127.0.0.1", service_port=1), SERVICE)
    with pytest.raises(LinkLost):
        await ours.publish_all([("some/topic", b"x")] * 3)


async def test_what_cannot_be_taken_yet_waits_with_the_broker(running):
    """While nobody takes messages none is read, so that a flood fills no memory; afterwards all of them arrive."""
    gate, arrived = asyncio.Event(), []

    async def take(_topic, payload):
        await gate.wait()
        arrived.append(payload)

    async with running_link(running, SERVICE, take) as ours, running_link(running, "sender", nothing) as sender:
        topic = f"{running[1].prefix}/dev-a/up/report"
        sent = [b"%d" % number * 200 for number in range(MESSAGES)]
        for start in range(0, MESSAGES, 500):
            await sender.publish_all([(topic, payload) for payload in sent[start : start + 500]])
        while ours.waiting < WAITING:  # noqa: ASYNC110 - another task brings it about
            await asyncio.sleep(0.01)
        await asyncio.sleep(stretched(1))  # what could still come, comes
        assert ours.waiting <= 2 * WAITING
        assert not arrived
        gate.set()
        while len(arrived) < MESSAGES:  # noqa: ASYNC110 - another task brings it about
            await asyncio.sleep(0.01)
    assert arrived == sent


async def test_messages_are_taken_while_others_are_read(running):
    """A taker that is slow for a moment, again and again, loses nothing, and keeps the order."""
    arrived = []

    async def take(_topic, payload):
        arrived.append(payload)
        if len(arrived) % 700 == 0:
            await asyncio.sleep(0.05)

    async with running_link(running, SERVICE, take), running_link(running, "sender", nothing) as sender:
        topic = f"{running[1].prefix}/dev-a/up/report"
        sent = [b"%d" % number for number in range(MESSAGES)]
        await sender.publish_all([(topic, payload) for payload in sent])
        while len(arrived) < MESSAGES:  # noqa: ASYNC110 - another task brings it about
            await asyncio.sleep(0.01)
    assert arrived == sent
