"""What a device takes from broadcasts: all that is right, and nothing that an order would have to wait for."""

import asyncio

import msgspec
import pytest

from agent import broadcast, fetch
from agent.blobs import BlobStore
from agent.broadcast import QUICK, SLOW_S, Broadcasts
from agent.fetch import Puller
from agent.settings import LEAST_RATE, load
from modules.digests import BLOCK, Blob
from modules.errors import BadSettings, LinkLost
from modules.protocol import blobs as wire
from tests.doubles.bad_values import PACKED
from tests.doubles.blob_server import BlobServer
from tests.parts.pace import stretched

BLOCKS = 12
AHEAD = 4


class SharingServer(BlobServer):
    """Invites whoever could take part, and broadcasts what those who joined ask for: as ``goes`` lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.old = False
        self.topics: set[str] = set()
        self.left: list[str] = []
        self.farewells: list[str] = []
        self.deliver_shared = lambda _blob, _payload: None
        self.goes = lambda _number: True
        self.shared_out: list[int] = []
        self.delay_s = 0.0

    async def subscribe(self, blob) -> None:
        if self.down:
            raise LinkLost("there is no session with the broker", element="double")
        self.topics.add(blob)

    async def unsubscribe(self, blob) -> None:
        self.topics.discard(blob)
        self.left.append(blob)

    def _answer(self, get):
        if self.old or not isinstance(get, wire.BlobGet) or get.shared == wire.ALONE:
            return super()._answer(get)
        if get.shared == wire.LEFT:
            self.farewells.append(get.digest)
            return []
        if get.shared == wire.COULD:
            return [wire.Block(get.request, wire.INVITED, AHEAD, len(self.blobs[get.digest]), b"")]
        assert get.digest in self.topics
        for number in get.numbers:
            if self.goes(number):
                self.broadcast(get.digest, number)
        return []

    def broadcast(self, blob, number, data=None) -> None:
        """As the broker would: to whoever reads the topic."""
        whole = self.blobs[blob]
        part = whole[number * BLOCK : (number + 1) * BLOCK] if data is None else data
        self.shared_out.append(number)
        loop = asyncio.get_running_loop()
        announced, block = (wire.encode(wire.Shared(number, len(whole), one)) for one in (b"", part))
        loop.call_soon(self._arrive, blob, announced)
        loop.call_later(self.delay_s, self._arrive, blob, block)

    def _arrive(self, blob, payload) -> None:
        if blob in self.topics or blob in self.left:  # what was under way when it left still comes
            self.deliver_shared(blob, payload)


class Device:
    """A device's store and puller on such a server; ``more`` is of the puller."""

    def __init__(self, folder, server, taking="auto", **more) -> None:
        self.server, self.store = server, BlobStore(folder)
        self.broadcasts = Broadcasts(server.subscribe, server.unsubscribe, taking=taking)
        self.puller = Puller(server.send, **{"timeout_s": 0.05, "tries": 3, "broadcasts": self.broadcasts} | more)
        server.deliver, server.deliver_shared = self.puller.on_block, self.puller.on_shared

    async def pull(self, blob) -> list[int]:
        gains: list[int] = []
        await self.puller.blob(blob, self.store, gains.append)
        await asyncio.sleep(0)
        return gains

    def alone(self) -> list[int]:
        """The blocks that it asked for without taking part."""
        gets = [get for get in self.server.asked if isinstance(get, wire.BlobGet)]
        return sorted(number for get in gets if get.shared == wire.ALONE for number in get.numbers)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(broadcast, "GATHERING_S", 0.3)
    monkeypatch.setattr(broadcast, "GOING_S", 0.2)
    monkeypatch.setattr(fetch, "_BUSY_WAIT_S", 0.001)
    return SharingServer()


def data(blocks=BLOCKS):
    return b"".join(bytes([n + 1]) * BLOCK for n in range(blocks - 1)) + b"the end"


async def test_a_blob_comes_by_its_broadcast_index_and_all(tmp_path, server):
    """Invited, it subscribes, takes each block once, tells each gain once, unsubscribes, and says that it has left."""
    blob = server.add(data())
    device = Device(tmp_path, server)
    gains = await device.pull(blob)

    assert device.store.path(blob.sha256).read_bytes() == data()
    assert sum(gains) == blob.length
    assert server.sent == []
    assert server.shared_out == [0, *range(BLOCKS)]  # the index is one block
    assert server.topics == set()
    assert sorted(server.left) == sorted(server.farewells) == sorted([blob.sha256, blob.blocks])


async def test_an_older_server_is_simply_asked(tmp_path, server):
    """It skips what it does not know in the request, and answers."""
    server.old = True
    blob = server.add(data())
    device = Device(tmp_path, server)
    await device.pull(blob)

    assert server.sent_of(blob) == list(range(BLOCKS))
    assert server.left == []


async def test_a_device_that_is_late_asks_only_for_what_has_gone_already(tmp_path, server):
    """The broadcast goes on with the last blocks while it asks for the first: those it never asks for."""
    blob = server.add(data())
    device = Device(tmp_path, server)
    later = iter(range(BLOCKS - 1, 5, -1))

    def goes(_):
        if blob.sha256 in server.topics and (number := next(later, None)) is not None:
            server.broadcast(blob.sha256, number)
        return True

    server.goes = goes
    await device.pull(blob)

    asked = [n for get in server.asked if get.digest == blob.sha256 and get.shared != wire.LEFT for n in get.numbers]
    assert device.store.has(blob)
    assert not {BLOCKS - 1, BLOCKS - 2, BLOCKS - 3} & set(asked)


async def test_what_the_broadcast_loses_is_asked_for_again_and_nothing_else(tmp_path, server):
    """One block does not come: it alone is asked for once more."""
    blob = server.add(data())
    device = Device(tmp_path, server, tries=5)
    lost = {5: 1}

    def goes(number):
        lost[number] = lost.get(number, 0) - 1
        return lost[number] < 0

    server.goes = goes
    await device.pull(blob)

    asked = [n for get in server.asked if get.digest == blob.sha256 and get.shared == wire.JOINED for n in get.numbers]
    assert device.store.has(blob)
    assert asked.count(5) >= 2
    assert server.shared_out.count(5) == 1
    assert set(asked) == set(range(BLOCKS))


async def test_a_broadcast_that_brings_nothing_is_left(tmp_path, server):
    """A broker that drops all of it, or a server that has forgotten it, costs a moment: the rest is pulled."""
    blob = server.add(data())
    device = Device(tmp_path, server, tries=5)
    server.goes = lambda _: False
    await device.pull(blob)

    assert device.store.has(blob)
    assert server.sent_of(blob) == list(range(BLOCKS))
    assert server.topics == set()


async def test_wrong_blocks_are_dropped_and_a_broker_that_sends_them_is_left(tmp_path, server):
    """Each wrong block is one hash; after a few the device takes no more of them, though right ones come, too."""
    blob = server.add(data())
    device = Device(tmp_path, server, tries=5)

    def goes(number):
        if blob.sha256 in server.topics:
            for salt in range(20):
                server.broadcast(blob.sha256, number, data=bytes([salt + 100]) * BLOCK)
        return True

    server.goes = goes
    await device.pull(blob)

    assert device.store.path(blob.sha256).read_bytes() == data()
    assert server.left[-1] == blob.sha256
    assert len(server.sent_of(blob)) >= BLOCKS - AHEAD


async def test_a_full_disk_is_met_by_the_pull_and_by_nothing_else(tmp_path, server, monkeypatch):
    """A block that was broadcast cannot be written: the pull says so as ever, and once there is room it is resumed."""
    blob = server.add(data())
    device = Device(tmp_path, server, tries=5)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(fetch.os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            await device.pull(blob)
    await device.pull(blob)
    assert device.store.has(blob)


async def test_a_wrong_index_costs_one_more_request(tmp_path, server):
    """What was broadcast as index is not the signed one: it is asked for alone."""
    blob = server.add(data())
    device = Device(tmp_path, server)

    def goes(number):
        if blob.blocks in server.topics:
            server.broadcast(blob.blocks, number, data=b"x" * 32 * BLOCKS)
            return False
        return True

    server.goes = goes
    await device.pull(blob)

    assert device.store.has(blob)
    assert server.sent == [(blob.blocks, 0)]


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"x" * (BLOCK + 1000), *PACKED], ids=range(3 + len(PACKED)))
async def test_no_message_of_a_shared_topic_harms(tmp_path, server, payload):
    """Whatever comes there, in the middle of a pull: it is dropped, and the pull ends well."""
    blob = server.add(data())
    device = Device(tmp_path, server)
    honest = wire.encode(wire.Shared(1, blob.length, b"x"))
    spoilt = [payload] if isinstance(payload, bytes) else []
    fields = [1, blob.length, b"x"]
    spoilt += [msgspec.msgpack.encode([*fields[:place], payload, *fields[place + 1 :]]) for place in range(4)]

    def goes(_):
        for one in (*spoilt, honest[:-1]):
            device.puller.on_shared(blob.sha256, one)
            device.puller.on_shared(blob.blocks, one)
        return True

    server.goes = goes
    await device.pull(blob)
    assert device.store.has(blob)


@pytest.mark.parametrize(("taking", "limit"), [("never", 0), ("auto", 1 << 30), ("always", 1 << 30)])
async def test_a_device_may_take_part_in_none(tmp_path, server, taking, limit):
    """Its setting says so, or it has a limit of its own, which no broadcast would heed."""
    blob = server.add(data())
    device = Device(tmp_path, server, taking=taking, limit=limit)
    await device.pull(blob)

    assert server.shared_out == []
    assert device.alone() == [0, *range(BLOCKS)]


class SlowLink:
    """One way to a device: each block takes a while on it, one after another; short messages take none."""

    def __init__(self, seconds) -> None:
        self.seconds, self.free = seconds, 0.0

    def carries(self, arrive):
        loop = asyncio.get_running_loop()

        def deliver(*message):
            self.free = max(self.free, loop.time()) + (self.seconds if len(message[-1]) > BLOCK // 2 else 0.0)
            loop.call_at(self.free, arrive, *message)

        return deliver


@pytest.mark.long
async def test_a_slow_link_is_found_out_at_the_first_block_and_left(tmp_path, server, monkeypatch):
    """A block that was announced does not come in time: it unsubscribes before more is sent, and pulls the rest."""
    monkeypatch.setattr(broadcast, "SLOW_S", 0.3)
    monkeypatch.setattr(broadcast, "GATHERING_S", 2.0)
    blob = server.add(data())
    device = Device(tmp_path, server, timeout_s=1.0)
    link = SlowLink(0.5)
    server.deliver, server.deliver_shared = link.carries(server.deliver), link.carries(server.deliver_shared)
    pull = asyncio.create_task(device.pull(blob))
    while blob.sha256 not in server.left:  # noqa: ASYNC110 - the double tells nobody
        await asyncio.sleep(0.01)
    assert device.puller.bytes_received < BLOCK
    await pull

    assert device.store.has(blob)
    assert server.shared_out == [0, 0, 1]  # the index, and two blocks of the blob
    assert server.sent_of(blob) == list(range(2, BLOCKS))
    assert server.topics == set()


async def test_a_link_that_is_known_as_slow_is_offered_nothing(tmp_path, server):
    """Its window holds few blocks: it asks as one that takes no part. ``always`` asks nothing of the link."""
    blob = server.add(data())
    for taking, way in (("auto", wire.ALONE), ("always", wire.COULD)):
        device = Device(tmp_path / taking, server, taking=taking)
        for _ in range(5):
            device.puller._window.took(SLOW_S)
        assert device.puller._window.blocks < QUICK
        server.asked.clear()
        await device.pull(blob)
        assert server.asked[0].shared == way


async def test_a_new_session_joins_anew(tmp_path, server):
    """The session ends in the middle: what it was subscribed to is gone, and it takes part again once it is invited."""
    blob = server.add(data())
    device = Device(tmp_path, server, tries=5)
    told = []

    def goes(number):
        if number == 6 and not told:
            told.append(number)
            server.topics.clear()
            device.broadcasts.forget()
            return False
        return True

    server.goes = goes
    await device.pull(blob)
    assert device.store.has(blob)
    assert told
    assert server.topics == set()
    assert server.farewells.count(blob.sha256) == 2


async def test_an_invitation_without_a_session_is_a_lost_link(tmp_path, server):
    """The pull pauses as ever, and is resumed."""
    blob = server.add(data())
    device = Device(tmp_path, server)

    async def gone(_):
        raise LinkLost("there is no session with the broker", element="double")

    device.broadcasts._subscribe = gone
    with pytest.raises(LinkLost):
        await device.pull(blob)


async def test_a_server_that_only_ever_invites_is_given_up(tmp_path, server):
    """Invitations without end are no answer: the pull pauses, with a reason."""
    blob = server.add(data())
    device = Device(tmp_path, server)
    server.goes = lambda _: False
    original = server._answer
    server._answer = lambda get: original(get) or [wire.Block(get.request, wire.INVITED, AHEAD, 0, b"")]
    async with asyncio.timeout(stretched(20)):
        with pytest.raises(fetch.TransferStalled):
            await device.pull(blob)


@pytest.mark.long
@pytest.mark.parametrize("rate", [300_000, 1_000_000])
async def test_a_device_asks_for_no_more_than_its_own_limit(tmp_path, rate):
    """Bytes that it asks for in some seconds, within 15 %, whatever the link would carry."""
    server = BlobServer()
    size = 6 * rate // BLOCK * BLOCK
    blob = server.add(bytes(range(256)) * (size // 256))
    puller = Puller(server.send, timeout_s=1.0, tries=3, limit=rate)
    server.deliver = puller.on_block
    loop = asyncio.get_running_loop()
    began = loop.time()
    await puller.blob(Blob(blob.sha256, blob.length, blob.blocks), BlobStore(tmp_path))
    assert size / (loop.time() - began) == pytest.approx(rate, rel=0.15)


def test_a_limit_with_which_no_block_comes_in_time_is_refused():
    """The agent does not start with it; 0 is no limit."""
    for text in ("0", str(LEAST_RATE)):
        assert str(load(environ={"EDGEFLEET_AGENT_PULL_BYTES_S": text}).pull_bytes_s) == text
    for text in ("1", str(LEAST_RATE - 1), "-1"):
        with pytest.raises(BadSettings, match="pull_bytes_s"):
            load(environ={"EDGEFLEET_AGENT_PULL_BYTES_S": text})
