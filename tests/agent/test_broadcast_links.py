"""A broadcast over the real broker, to devices on quick and slow links: each gets it, and no order waits behind it."""

import asyncio
import os
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

from agent.blobs import BlobStore
from agent.broadcast import SLOW_S, Broadcasts
from agent.fetch import Puller
from fleet.blobs import Blobs
from fleet.broadcast import Broadcaster
from fleet.broker import BrokerLink, tls_context
from fleet.demand import Demand
from fleet.limits import Limits
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.publisher import Publisher
from fleet.setup import SERVICE
from modules.digests import BLOCK
from modules.names import device_id
from modules.protocol.topics import Topics
from tests.agent.test_link import DEVICE, Session, Site
from tests.doubles.rights import Everything
from tests.parts.pace import stretched
from tests.parts.proxy import Proxy
from tests.parts.wiretap import Wiretap

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto"), pytest.mark.timeout(300)]
TOPICS = Topics()
RATE = 8_000.0  # bytes a second: 64 kbit/s
QUICK = [device_id(f"dev-quick-{number}") for number in range(3)]


class Pulling:
    """A device's link and puller; ``told`` is set by anything that is not a block."""

    def __init__(self, session, folder, device) -> None:
        self.link, self.device = session.link, device
        self.store = BlobStore(folder / device)
        self.parts = Broadcasts(self.link.read_shared, partial(self.link.read_shared, stop=True), taking="auto")
        self.puller = Puller(self.ask, timeout_s=5.0, tries=5, broadcasts=self.parts)
        self.told = asyncio.Event()
        session.take, session.take_shared = self.on_message, self.puller.on_shared

    async def ask(self, payload) -> None:
        await self.link.publish(TOPICS.blob_get(self.device), payload, qos=0)

    def on_message(self, topic, payload) -> None:
        if topic.rest[0] == "blob":
            self.puller.on_block(payload)
        else:
            self.told.set()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("links"))
    for device in QUICK:
        made.enrol(device)
    return made


@asynccontextmanager
async def server(site, running, demand, ended):
    """The server's own parts, on the real broker."""
    blobs = Blobs(site.data.blobs)
    tls = tls_context(ca=site.data.ca, certificate=site.data.service, key=site.data.key(site.data.service))
    link = BrokerLink(host=running.host, port=running.service_port, tls=tls, topics=TOPICS, identifier=SERVICE)
    mishaps = Mishaps(time.time)

    async def end_session(device):
        ended.append(device)
        await link.end_session(device)

    parts = {"topics": TOPICS, "send": link.publish, "read_blocks": blobs.read_blocks, "mishaps": mishaps}
    parts |= {"rights": Everything(), "limits": Limits(), "meters": Meters()}
    broadcaster = Broadcaster(
        demand=lambda blob: Demand(blobs.length(blob) or 0, demand), end_session=end_session, **parts
    )
    publisher = Publisher(read_metadata=lambda _: b"", workers=2, broadcasts=broadcaster, **parts)
    connected = asyncio.Event()

    async def arrived(topic, payload):
        if topic.rest == ("blob", "get"):
            await publisher.take(topic.device, payload)

    tasks = [asyncio.create_task(link.run(connected.set, arrived)), asyncio.create_task(publisher.run())]
    await connected.wait()
    try:
        yield blobs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def joined(session):
    await session.until(lambda: session.connects)


async def test_a_slow_device_leaves_a_broadcast_before_it_fills_its_link(site, tmp_path):
    """Three quick devices and one at 64 kbit/s begin together, none knows its link: the quick ones have all of it
    within seconds, and what the slow one is told meanwhile comes within the time of a few blocks."""
    ended = []
    with site.broker() as running, Proxy(running.device_port, rate=RATE, latency_s=0.2) as proxy:
        async with server(site, running, 4, ended) as blobs, Session(site, proxy.port) as slow_session:
            blob = blobs.put(os.urandom(60 * BLOCK))
            await joined(slow_session)
            slow = Pulling(slow_session, tmp_path, DEVICE)
            async with (
                Session(site, running.device_port, QUICK[0]) as a,
                Session(site, running.device_port, QUICK[1]) as b,
                Session(site, running.device_port, QUICK[2]) as c,
            ):
                quick = [Pulling(one, tmp_path, device) for one, device in zip((a, b, c), QUICK, strict=True)]
                for one in (a, b, c):
                    await joined(one)
                with Wiretap(site.data, running, DEVICE) as tap:
                    pull = asyncio.create_task(slow.puller.blob(blob, slow.store))
                    began = time.monotonic()
                    async with asyncio.timeout(stretched(60)):
                        await asyncio.gather(*(one.puller.blob(blob, one.store) for one in quick))
                    took = time.monotonic() - began
                    tap.say("ack", b"told", retain=False)
                    told = time.monotonic()
                    async with asyncio.timeout(stretched(120)):
                        await slow.told.wait()
                    waited = time.monotonic() - told
                    seen = tap.broadcast(blob.sha256)
                pull.cancel()
                await asyncio.wait([pull])
    assert set(seen) == set(range(60))
    assert sum(seen.values()) <= 66
    # Two blocks may be on the slow link, and two that it asks for by itself.
    assert waited < 4.5 * BLOCK / RATE
    assert took < 3 * SLOW_S + 20
    assert ended == []
    assert slow.puller.bytes_received < 8 * BLOCK


async def test_a_device_that_hangs_in_a_broadcast_is_let_go_of(site, tmp_path):
    """Its link swallows everything in the middle: the others get it all, and the broker keeps nothing for it."""
    ended = []
    with site.broker() as running, Proxy(running.device_port, rate=RATE * 500) as proxy:
        async with server(site, running, 3, ended) as blobs, Session(site, proxy.port) as session:
            blob = blobs.put(os.urandom(300 * BLOCK))
            await joined(session)
            hangs = Pulling(session, tmp_path / "hangs", DEVICE)
            async with (
                Session(site, running.device_port, QUICK[0]) as a,
                Session(site, running.device_port, QUICK[1]) as b,
            ):
                others = [Pulling(one, tmp_path / "others", device) for one, device in ((a, QUICK[0]), (b, QUICK[1]))]
                for one in (a, b):
                    await joined(one)
                pull = asyncio.create_task(hangs.puller.blob(blob, hangs.store))
                pulls = asyncio.gather(*(one.puller.blob(blob, one.store) for one in others))
                await session.until(lambda: hangs.puller.bytes_received > 20 * BLOCK)
                proxy.swallow()
                async with asyncio.timeout(stretched(100)):
                    await pulls
                    while not ended:  # noqa: ASYNC110 - the server tells nobody
                        await asyncio.sleep(0.1)
                pull.cancel()
                await asyncio.wait([pull])
                for task in hangs.parts._leaving:  # it waits for a receipt that is swallowed
                    task.cancel()
    assert ended == [DEVICE]
