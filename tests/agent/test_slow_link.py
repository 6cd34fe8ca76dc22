"""Pulls over the real broker from a real server: on a slow link and on a quick one."""

import asyncio
import os
import time
from contextlib import ExitStack

import pytest

from agent.blobs import BlobStore
from agent.fetch import Puller
from fleet.blobs import Blobs
from fleet.db import Database
from modules import manifest as manifests
from tests.agent.test_link import DEVICE, Session, Site
from tests.doubles.publisher import module
from tests.doubles.rights import enrolled, ordered
from tests.parts.fleet_server import fleet_server
from tests.parts.proxy import Proxy
from tests.parts.wiretap import Wiretap

pytestmark = [pytest.mark.long, pytest.mark.needs("mosquitto")]
# 64 kbit/s, and half a second on the way in either direction.
RATE, LATENCY_S = 8_000.0, 0.5


class Pulling:
    """A device's link and puller, and a server that has a blob of random bytes for it."""

    def __init__(self, site, session, folder) -> None:
        self.site, self.session, self.link = site, session, session.link
        self.store = BlobStore(folder / "blobs")
        self.puller = Puller(self.ask, timeout_s=5.0, tries=5)
        self.told = asyncio.Event()
        session.take = self.on_message

    async def ask(self, payload: bytes) -> None:
        await self.link.publish(self.link.topics.blob_get(DEVICE), payload, qos=0)

    def on_message(self, topic, payload) -> None:
        if topic.rest[0] == "blob":
            self.puller.on_block(payload)
        else:
            self.told.set()

    async def pull(self, size) -> float:
        """The seconds that it took."""
        data = os.urandom(size)
        manifest = module("acme", "slow", "1", {"model.onnx": data})
        for one in (data, manifests.encode(manifest)):
            Blobs(self.site.data.blobs).put(one)
        database = Database.at(self.site.data.database)
        enrolled(database, DEVICE)
        ordered(database, DEVICE, manifest)
        database.close()
        blob = manifest.files[0]
        began = time.monotonic()
        await self.puller.blob(blob, self.store)
        assert self.store.has(blob)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site(tmp_path_factory.mktemp("slow"))


@pytest.fixture
def slow(site, tmp_path):
    """Broker and server, and the port of the slow link to them."""
    with ExitStack() as parts:
        running = parts.enter_context(site.broker())
        parts.enter_context(fleet_server(site.data, running))
        proxy = parts.enter_context(Proxy(running.device_port, rate=RATE, latency_s=LATENCY_S))
        yield running, proxy.port


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [3 << 16, pytest.param(1_000_000, marks=pytest.mark.long)])
async def test_a_module_arrives_over_a_slow_link(site, slow, tmp_path, size):
    """At 64 kbit/s with half a second of latency a blob arrives within three times the ideal time; meanwhile what the
    device says is acknowledged, and what it is told comes within the time of a few blocks."""
    broker, port = slow
    async with Session(site, port) as session:
        await session.until(lambda: session.connects)
        pulling = Pulling(site, session, tmp_path)
        pull = asyncio.create_task(pulling.pull(size))
        await asyncio.sleep(4)  # the pull has the link to itself, as it is asked to prove
        with Wiretap(site.data, broker, DEVICE) as tap:
            tap.say("ack", b"told", retain=False)
            told = time.monotonic()
            await session.link.publish(session.link.topics.report(DEVICE), b"said", qos=1)
            await pulling.told.wait()
            waited = time.monotonic() - told
        took = await pull

    assert took < 3 * (size / RATE + 2 * LATENCY_S)
    assert waited < 3 * (1 << 16) / RATE
