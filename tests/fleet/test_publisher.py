"""Answers to pulls: fair, bounded, and never silent."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from fleet.mishaps import Mishaps
from fleet.publisher import WAITING_PER_DEVICE, Publisher
from fleet.refusals import Missing
from modules.digests import BLOCK
from modules.errors import LinkLost
from modules.names import DeviceId, Digest
from modules.protocol import blobs as wire
from modules.protocol.topics import Topics
from tests.doubles.rights import Everything
from tests.parts.pace import stretched

TOPICS = Topics()
KNOWN = Digest("sha256:" + "a" * 64)
UNKNOWN = Digest("sha256:" + "b" * 64)
DAMAGED = Digest("sha256:" + "d" * 64)
DATA = bytes(range(256)) * 1000


class Sent:
    """What the publisher hands to the broker; can be made to wait, or to lose its link."""

    def __init__(self):
        self.blocks = []
        self.open = asyncio.Event()
        self.open.set()
        self.lost = False
        self.changed = asyncio.Condition()

    async def __call__(self, topic, payload):
        await self.open.wait()
        if self.lost:
            raise LinkLost("gone")
        async with self.changed:
            self.blocks.append((TOPICS.parse(topic), wire.decode_block(payload)))
            self.changed.notify_all()

    async def count(self, number):
        async with asyncio.timeout(stretched(10)), self.changed:
            await self.changed.wait_for(lambda: len(self.blocks) >= number)
        return self.blocks


def read_blocks(digest, numbers):
    if digest == DAMAGED:
        raise OSError(5, "Input/output error")
    if digest != KNOWN:
        raise Missing("there is no such blob", element=digest)
    return len(DATA), [(n, DATA[n * BLOCK : (n + 1) * BLOCK]) for n in numbers if n * BLOCK < len(DATA)]


def read_metadata(name):
    if name != "timestamp.json":
        raise Missing("there is no such metadata file", element=name)
    return b"m" * (BLOCK + 1)


@asynccontextmanager
async def publisher(workers=1):
    sent = Sent()
    parts = {"read_blocks": read_blocks, "read_metadata": read_metadata, "mishaps": Mishaps(lambda: 0.0)}
    made = Publisher(topics=TOPICS, send=sent, workers=workers, rights=Everything(), **parts)
    task = asyncio.create_task(made.run())
    try:
        yield made, sent
    finally:
        task.cancel()
        await asyncio.wait([task])


def get(request, *, digest=KNOWN, first=0, mask=1):
    return wire.encode(wire.BlobGet(request=request, digest=digest, first=first, mask=mask))


async def test_every_block_that_was_asked_for_comes_with_its_number():
    """The mask picks blocks; each goes to the topic of its request with the blob's length."""
    async with publisher() as (made, sent):
        await made.take(DeviceId("dev-a"), get(7, first=1, mask=0b101))
        blocks = await sent.count(2)
    assert [(topic.rest, block.number, block.length) for topic, block in blocks] == [
        (("blob", "7"), 1, len(DATA)),
        (("blob", "7"), 3, len(DATA)),
    ]
    assert blocks[1][1].data == DATA[3 * BLOCK :]


async def test_a_metadata_file_comes_in_all_its_blocks():
    """Larger than one block is split like a blob."""
    async with publisher() as (made, sent):
        await made.take(DeviceId("dev-a"), wire.encode(wire.MetadataGet(request=1, name="timestamp.json")))
        blocks = await sent.count(2)
    assert [(block.number, len(block.data), block.length) for _, block in blocks] == [
        (0, BLOCK, BLOCK + 1),
        (1, 1, BLOCK + 1),
    ]


@pytest.mark.parametrize(
    "payload",
    [
        get(1, digest=UNKNOWN),
        get(1, first=500),
        wire.encode(wire.MetadataGet(request=1, name="9.root.json")),
    ],
    ids=["no blob", "after the end", "no metadata"],
)
async def test_what_is_not_there_is_an_answer(payload):
    """A device never waits for a silence: 404 says it, with the reason."""
    async with publisher() as (made, sent):
        await made.take(DeviceId("dev-a"), payload)
        ((_, block),) = await sent.count(1)
    assert block.status == wire.MISSING
    assert block.data


async def test_devices_take_turns():
    """A device with many requests does not keep the others waiting behind all of them."""
    async with publisher() as (made, sent):
        sent.open.clear()
        for request in range(1, 5):
            await made.take(DeviceId("dev-greedy"), get(request))
        await made.take(DeviceId("dev-modest"), get(99))
        sent.open.set()
        blocks = await sent.count(5)
    assert [topic.device for topic, _ in blocks].index("dev-modest") <= 2


async def test_too_many_requests_of_one_device_are_answered_busy():
    """The queue per device is bounded, and its owner is told."""
    async with publisher() as (made, sent):
        sent.open.clear()
        for request in range(1, WAITING_PER_DEVICE + 10):
            await made.take(DeviceId("dev-a"), get(request))
        sent.open.set()
        async with asyncio.timeout(stretched(10)), sent.changed:
            await sent.changed.wait_for(lambda: any(block.status == wire.BUSY for _, block in sent.blocks))
    assert len(sent.blocks) <= WAITING_PER_DEVICE + 2


async def test_an_unreadable_request_and_a_lost_link_stop_nobody():
    """Garbage is dropped, and after an outage the next request is served."""
    async with publisher() as (made, sent):
        sent.lost = True
        await made.take(DeviceId("dev-a"), b"garbage")
        await made.take(DeviceId("dev-a"), get(1))
        sent.lost = False
        await made.take(DeviceId("dev-a"), get(2))
        async with asyncio.timeout(stretched(10)), sent.changed:
            await sent.changed.wait_for(lambda: any(block.request == 2 for _, block in sent.blocks))


async def test_a_blob_that_cannot_be_read_is_answered_and_stops_nobody():
    """A bad sector of the server's disk costs one device one answer, which says to ask later."""
    async with publisher() as (made, sent):
        await made.take(DeviceId("dev-a"), get(1, digest=DAMAGED))
        await made.take(DeviceId("dev-b"), get(2))
        blocks = await sent.count(2)

    assert [(topic.device, block.status) for topic, block in blocks] == [("dev-a", wire.BUSY), ("dev-b", wire.OK)]
    assert b"ask again later" in blocks[0][1].data
