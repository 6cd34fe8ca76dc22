"""Broadcasts: who is invited, what goes out once for all, and what never does."""

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

from fleet import broadcast as broadcasts
from fleet import pack
from fleet.broadcast import AHEAD_BYTES, LEAST_AHEAD, MOST_AHEAD, PACKS, Broadcaster
from fleet.demand import Demand
from fleet.limits import LabelLimit, Limits
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.publisher import Publisher
from fleet.refusals import Missing
from modules.digests import BLOCK
from modules.errors import LinkLost
from modules.names import DeviceId, Digest
from modules.protocol import blobs as wire
from modules.protocol.topics import Topics
from tests.doubles.rights import Everything
from tests.parts.pace import stretched

TOPICS = Topics()
DATA = bytes(range(256)) * 1000
BLOB = Digest("sha256:" + "a" * 64)
A, B = DeviceId("dev-a"), DeviceId("dev-b")


class Site:
    """Publisher and broadcaster; ``said`` is what the broker was given: by topic, and as it was read."""

    def __init__(self, limits=None):
        self.said, self.lost = [], False
        self.demands = {BLOB: Demand(len(DATA), 2)}
        self.asked = 0
        self.meters = Meters()
        limits = limits or Limits()
        mishaps = Mishaps(lambda: 0.0)
        parts = {"topics": TOPICS, "send": self.send, "read_blocks": self.read_blocks, "mishaps": mishaps}
        self.rights = Everything()
        parts |= {"rights": self.rights, "limits": limits, "meters": self.meters}
        self.ended = []
        self.broadcaster = Broadcaster(demand=self.demand, end_session=self.end_session, **parts)
        more = {"read_metadata": lambda _: b"m", "workers": 2, "broadcasts": self.broadcaster}
        self.publisher = Publisher(**parts, **more)
        self.requests = 0

    async def end_session(self, device):
        self.ended.append(device)

    def demand(self, blob):
        self.asked += 1
        found = self.demands.get(blob)
        if isinstance(found, Exception):
            raise found
        return found

    def read_blocks(self, digest, numbers):
        if digest not in self.demands:
            raise Missing("there is no such blob", element=digest)
        return len(DATA), [(n, DATA[n * BLOCK : (n + 1) * BLOCK]) for n in numbers if n * BLOCK < len(DATA)]

    async def send(self, topic, payload):
        if self.lost:
            raise LinkLost("gone")
        shared = TOPICS.of_shared_blob(topic)
        self.said.append(
            wire.decode_shared(payload) if shared else (TOPICS.parse(topic).device, wire.decode_block(payload))
        )

    async def ask(self, device, *numbers, shared, last=3, blob=BLOB):
        self.requests += 1
        mask = sum(1 << number - numbers[0] for number in numbers)
        get = {"request": self.requests, "digest": blob, "first": numbers[0], "mask": mask}
        await self.publisher.take(device, wire.encode(wire.BlobGet(**get, shared=shared, last=last)))
        return self.requests

    async def until(self, condition):
        async with asyncio.timeout(stretched(10)):
            while not condition():  # noqa: ASYNC110 - of all conditions, none tells us
                await asyncio.sleep(0.01)

    async def answers(self, count):
        await self.until(lambda: len(self.said) >= count)
        return self.said

    def answered(self, device, request, blocks):
        return sum(one.request == request for one in self.blocks_for(device)) == blocks

    @property
    def to_all(self):
        return [one for one in self.said if isinstance(one, wire.Shared)]

    def blocks_for(self, device):
        return [one[1] for one in self.said if isinstance(one, tuple) and one[0] == device]


@asynccontextmanager
async def site(**more):
    made = Site(**more)
    task = asyncio.create_task(made.publisher.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_devices_of_a_wave_are_invited_and_each_block_goes_out_once():
    """Two devices of a wave ask, are invited, ask again: each block goes out once, announced, and to neither alone."""
    async with site() as made:
        requests = [await made.ask(device, 0, 1, shared=wire.COULD) for device in (A, B)]
        invitations = list(await made.answers(2))
        for (device, one), asked in zip(invitations, requests, strict=True):
            assert (device, one.request, one.status) == ({1: A, 2: B}[asked], asked, wire.INVITED)
            assert one.number == MOST_AHEAD
        for device in (A, B):
            await made.ask(device, 0, 1, shared=wire.JOINED)
        await made.until(lambda: len(made.to_all) == 4)
    assert [(one.number, len(one.data)) for one in made.to_all] == [(0, 0), (0, BLOCK), (1, 0), (1, BLOCK)]
    assert b"".join(one.data for one in made.to_all) == DATA[: 2 * BLOCK]
    assert len(made.said) == len(invitations) + 4


@pytest.mark.parametrize("shared", [wire.COULD, wire.JOINED])
async def test_a_device_whose_orders_do_not_name_the_blob_is_neither_invited_nor_let_in(shared):
    """It hears that there is none, and what others take by a broadcast goes out for them alone."""
    async with site() as made:
        made.rights.without = {B}
        await made.ask(A, 0, shared=wire.COULD)
        await made.ask(B, 0, shared=shared)
        await made.answers(2)
    assert [block.status for block in made.blocks_for(A)] == [wire.INVITED]
    assert [(one.status, one.data) for one in made.blocks_for(B)] == [(wire.MISSING, b"there is no such blob")]


async def test_a_device_that_pulls_by_itself_is_answered_at_once():
    """Alone with its blob, and no wave says otherwise: it waits for nobody."""
    async with site() as made:
        made.demands[BLOB] = Demand(len(DATA), 1)
        for number in range(3):
            await made.ask(A, number, shared=wire.COULD)
        await made.answers(3)
    assert [block.status for block in made.blocks_for(A)] == [wire.OK] * 3


async def test_a_second_device_that_wants_the_same_is_enough():
    """No wave is known, but two ask within a moment: the second is invited, and the first with its next request."""
    async with site() as made:
        made.demands[BLOB] = Demand(len(DATA), 0)
        for device in (A, B, A):
            await made.ask(device, 0, shared=wire.COULD)
        await made.answers(3)
    assert [block.status for block in made.blocks_for(B)] == [wire.INVITED]
    assert sorted(block.status for block in made.blocks_for(A)) == [wire.OK, wire.INVITED]


@pytest.mark.parametrize("shared", [wire.COULD, wire.JOINED])
@pytest.mark.parametrize("why", [None, OSError(5, "Input/output error"), RuntimeError("no database")])
async def test_what_may_not_or_cannot_be_known_to_be_shareable_is_never_broadcast(shared, why):
    """A confidential blob, and one of which the database says nothing, go to those who ask, whatever they claim."""
    async with site() as made:
        made.demands[BLOB] = why
        for device in (A, B, A, B):
            await made.ask(device, 0, 1, shared=shared)
        await made.answers(8)
    assert made.to_all == []
    assert {block.status for device in (A, B) for block in made.blocks_for(device)} == {wire.OK}


async def test_a_blob_that_becomes_confidential_is_broadcast_no_more(monkeypatch):
    """A confidential module that names it is registered while devices wait for a block: it does not go out to all."""
    monkeypatch.setattr(broadcasts, "FRESH_S", 0.0)
    monkeypatch.setattr(pack, "PATIENCE_S", 0.5)
    async with site() as made:
        made.demands[BLOB] = Demand(len(DATA), 3)
        for device in (A, B, DeviceId("dev-slow")):
            await made.ask(device, 0, shared=wire.JOINED)
        await made.until(lambda: len(made.to_all) == 2)
        for device in (A, B):
            await made.ask(device, 1, shared=wire.JOINED)
        await asyncio.sleep(0.2)  # they wait for the third
        made.demands[BLOB] = None
        await asyncio.sleep(1)
        assert len(made.to_all) == 2
        await made.ask(A, 1, shared=wire.JOINED)
        await made.until(lambda: made.blocks_for(A))
    assert [(one.status, one.number) for one in made.blocks_for(A)] == [(wire.OK, 1)]
    assert len(made.to_all) == 2


async def test_older_devices_are_answered_as_ever():
    """A request without the field, in the middle of a broadcast, is answered to its device alone, at once."""
    async with site() as made:
        await made.ask(A, 0, shared=wire.JOINED)
        request = await made.ask(B, 0, 1, shared=wire.ALONE)
        await made.answers(2)
    assert [(one.request, one.status) for one in made.blocks_for(B)] == [(request, wire.OK)] * 2


async def test_a_device_with_a_limit_takes_no_part():
    """A broadcast would not heed its limit: it is not invited, and what it claims to have joined comes to it alone."""
    limits = Limits(device=10_000_000)
    async with site(limits=limits) as made:
        for shared in (wire.COULD, wire.JOINED):
            for device in (A, B):
                await made.ask(device, 0, shared=shared)
        await made.answers(4)
    assert made.to_all == []
    assert {block.status for device in (A, B) for block in made.blocks_for(device)} == {wire.OK}


@pytest.mark.parametrize(
    ("devices", "ahead"), [(2, MOST_AHEAD), (500, AHEAD_BYTES // BLOCK // 500), (100_000, LEAST_AHEAD)]
)
async def test_the_more_devices_the_fewer_blocks_are_under_way(devices, ahead):
    """What may wait in the broker for slow devices is bounded for all of them together."""
    async with site() as made:
        made.demands[BLOB] = Demand(len(DATA), devices)
        await made.ask(A, 0, shared=wire.COULD)
        ((_, invitation),) = await made.answers(1)
    assert invitation.number == ahead
    assert 500 * 8 * BLOCK <= AHEAD_BYTES


async def test_a_lone_device_of_a_wave_is_served_by_itself(monkeypatch):
    """The others of its wave never come: after the time for gathering it gets its blocks, in its own request."""
    monkeypatch.setattr(pack, "GATHER_S", 0.1)
    async with site() as made:
        request = await made.ask(A, 0, 1, shared=wire.JOINED)
        await made.answers(2)
    assert [(one.request, one.number) for one in made.blocks_for(A)] == [(request, 0), (request, 1)]


async def test_garbage_floods_and_a_lost_link_stop_nobody(monkeypatch):
    """Blocks that are not there, blobs by the hundred, an outage: whoever asks afterwards is served."""
    monkeypatch.setattr(pack, "GATHER_S", 0.1)
    async with site() as made:
        for number in range(3 * PACKS):
            blob = Digest(f"sha256:{number:064x}")
            made.demands[blob] = Demand(len(DATA), 2)
            made.lost = number < PACKS
            await made.ask(A, 0, shared=wire.JOINED, blob=blob)
        await made.ask(A, 50, shared=wire.JOINED)
        for device in (A, B):
            await made.ask(device, 0, shared=wire.JOINED, blob=BLOB)
        await made.until(lambda: made.blocks_for(B))


async def test_the_database_is_asked_once_for_a_crowd():
    """Five hundred devices ask for one blob: what is known of it is looked up once in a while, not for each."""
    async with site() as made:
        made.demands[BLOB] = Demand(len(DATA), 500)
        for number in range(500):
            await made.ask(DeviceId(f"dev-{number}"), 0, shared=wire.COULD)
        await made.answers(500)
    assert made.asked <= 3


@pytest.mark.parametrize("rate", [400_000, pytest.param(1_600_000, marks=pytest.mark.long)])
async def test_the_servers_limit_holds_over_pulls_and_broadcasts_together(rate):
    """Two devices joined, one older beside them: what all are sent in some seconds is the limit, within 15 %."""
    async with site(limits=Limits(total=rate)) as made:

        async def pull(device, shared):
            while True:
                more = len(made.said) + 1
                await made.ask(device, 0, 1, 2, shared=shared)
                await made.answers(more)

        tasks = [asyncio.create_task(pull(*one)) for one in ((A, wire.JOINED), (B, wire.JOINED), (DeviceId("old"), 0))]
        await made.answers(2)
        size = lambda: sum(len(one.data if isinstance(one, wire.Shared) else one[1].data) for one in made.said)  # noqa: E731
        began, before = time.monotonic(), size()
        await asyncio.sleep(4)
        took, sent = time.monotonic() - began, size() - before
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert sent / took == pytest.approx(rate, rel=0.15)
    assert made.to_all


async def test_the_servers_limit_holds_for_a_broadcast_alone():
    """Two devices take one block after another: what goes out to both in some seconds is the limit, within 15 %."""
    rate = 1_000_000
    async with site(limits=Limits(total=rate)) as made:
        made.demands[BLOB] = Demand(1000 * BLOCK, 2)
        made.read_blocks = lambda _, numbers: (1000 * BLOCK, [(number, b"x" * BLOCK) for number in numbers])
        made.broadcaster._read_blocks = made.read_blocks

        async def pull(device):
            for number in range(1000):
                await made.ask(device, number, shared=wire.JOINED, last=999)
                await made.until(lambda number=number: made.to_all and made.to_all[-1].number >= number)

        tasks = [asyncio.create_task(pull(device)) for device in (A, B)]
        await made.until(lambda: len(made.to_all) > 8)
        began, before = time.monotonic(), len(made.to_all)
        await asyncio.sleep(4)
        took, sent = time.monotonic() - began, (len(made.to_all) - before) // 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert sent * BLOCK / took == pytest.approx(rate, rel=0.15)


@pytest.mark.parametrize("rate", [200_000, pytest.param(800_000, marks=pytest.mark.long)])
async def test_a_devices_limit_holds_and_is_its_own(rate):
    """A device with a label has the label's limit, within 15 %; one beside it, without the label, has none."""
    labels = {A: {"link": "lte"}}
    limits = Limits(
        device=0,
        by_label=(LabelLimit("link", "lte", rate), LabelLimit("link", "lte", 10 * rate)),
        labels_of=lambda device: labels.get(device, {}),
    )
    async with site(limits=limits) as made:

        async def pull(device):
            while True:
                request = await made.ask(device, 0, 1, shared=wire.ALONE)
                await made.until(partial(made.answered, device, request, 2))

        tasks = [asyncio.create_task(pull(device)) for device in (A, B)]
        await made.until(lambda: made.blocks_for(A))
        began, before = time.monotonic(), len(made.blocks_for(A))
        await asyncio.sleep(4)
        took, sent = time.monotonic() - began, len(made.blocks_for(A)) - before
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert sent * BLOCK / took == pytest.approx(rate, rel=0.15, abs=BLOCK / 4)
    assert len(made.blocks_for(B)) > 3 * sent


@pytest.mark.long
async def test_where_the_limit_is_low_devices_are_told_to_come_later_and_all_get_on():
    """A hundred devices at a rate for two: those that are let in are answered while they wait, the others hear BUSY."""
    async with site(limits=Limits(total=200_000)) as made:
        for number in range(100):
            await made.ask(DeviceId(f"dev-{number}"), 0, 1, shared=wire.ALONE)
        await made.until(lambda: len(made.said) >= 95)
        busy = [one for one in made.said if one[1].status == wire.BUSY]
        assert len(busy) >= 90
        await asyncio.sleep(4)
        await made.ask(B, 0, shared=wire.ALONE)
        await made.until(lambda: any(one.status == wire.OK for one in made.blocks_for(B)))


async def test_who_dies_in_the_middle_leaves_nothing_in_the_broker(monkeypatch):
    """A device that was sent blocks and asks for no more has its session ended; one that says goodbye has not."""
    for name, value in (("SILENT_S", 0.8), ("PATIENCE_S", 0.1), ("DEAD_AFTER", 2)):
        monkeypatch.setattr(pack, name, value)
    monkeypatch.setattr(broadcasts, "CLEAR_EVERY_S", 0.05)
    dead, left = DeviceId("dev-dead"), DeviceId("dev-left")
    async with site() as made:
        made.demands[BLOB] = Demand(len(DATA), 4)
        for device in (A, B, dead, left):
            await made.ask(device, 0, shared=wire.JOINED)
        await made.until(lambda: made.to_all)
        await made.ask(left, 0, shared=wire.LEFT)
        for number in (1, 2, 3):
            await asyncio.sleep(0.4)  # together they are longer than silence may be
            for device in (A, B):
                await made.ask(device, number, shared=wire.JOINED)
            await made.until(lambda: made.to_all[-1].number == number)  # noqa: B023 - of this round
        await made.until(lambda: made.ended)
        assert made.ended == [dead]
    assert made.blocks_for(left) == []


async def test_a_farewell_is_never_answered(monkeypatch):
    """Of whatever blob, also where nothing is broadcast: it asks for nothing."""
    async with site() as made:
        made.publisher._broadcasts = None
        await made.ask(A, 0, shared=wire.LEFT)
        await made.ask(A, 1, shared=wire.ALONE)
        await made.answers(1)
        await asyncio.sleep(0.1)
    assert [one.number for one in made.blocks_for(A)] == [1]
