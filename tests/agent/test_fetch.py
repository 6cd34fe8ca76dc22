"""Pulls: whole, resumed, repaired block by block, bounded, and never with bytes that were not signed."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import fetch
from agent.blobs import BlobStore
from agent.fetch import Missing, Puller
from modules.digests import BLOCK, Blob, sha256
from modules.errors import Invalid, LinkLost, TransferStalled
from modules.protocol import blobs as wire
from tests.doubles.blob_server import BlobServer
from tests.parts.pace import stretched

SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 20 * BLOCK + 7]


class Pulling:
    """A server, a puller and a store that belong together; ``again`` is the agent after a kill."""

    def __init__(self, folder, **more) -> None:
        self.folder, self.more = folder, {"timeout_s": 0.02, "tries": 3} | more
        self.server = BlobServer()
        self.again()

    def again(self) -> None:
        self.store = BlobStore(self.folder)
        self.puller = Puller(self.server.send, **self.more)
        self.server.deliver = self.puller.on_block

    async def pull(self, blob) -> list[int]:
        """Pull; returns each gain that was told."""
        gains: list[int] = []
        await self.puller.blob(blob, self.store, gains.append)
        return gains

    def read(self, blob) -> bytes:
        return self.store.path(blob.sha256).read_bytes()


@pytest.fixture
def pulling(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_BUSY_WAIT_S", 0.001)
    return Pulling(tmp_path / "blobs")


def data(size, salt=0):
    """Bytes whose blocks all differ."""
    return b"".join(bytes([(n + salt) % 251 + 1]) * min(BLOCK, size - n * BLOCK) for n in range(-(-size // BLOCK)))


@pytest.mark.parametrize("size", SIZES)
async def test_a_blob_of_any_size_arrives_whole(pulling, size):
    """Empty, one byte, around a block, many blocks: the bytes are the same, and all of them are told as gained."""
    blob = pulling.server.add(data(size))
    gains = await pulling.pull(blob)

    assert pulling.read(blob) == data(size)
    assert sum(gains) == size
    assert pulling.server.sent_of(blob) == list(range(blob.block_count))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_gets_lost_or_spoilt_arrives_in_the_end(tmp_path_factory, faults):
    """With each block lost or wrong fewer times than the tries, the pull ends with the right bytes."""
    size = faults.draw(st.integers(0, 9 * BLOCK + 5))
    hits = faults.draw(st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=4))

    async def pull() -> None:
        pulling = Pulling(tmp_path_factory.mktemp("blobs"), timeout_s=0.01)
        blob = pulling.server.add(data(size))
        for number, (lost, spoilt) in hits.items():
            pulling.server.lose[blob.sha256, number] = lost
            pulling.server.spoil[blob.sha256, number] = spoilt
        await pulling.pull(blob)
        assert pulling.read(blob) == data(size)

    asyncio.run(pull())


async def test_what_is_here_is_not_asked_for(pulling):
    """A blob that is in the store costs no request."""
    blob = pulling.server.add(data(BLOCK))
    await pulling.pull(blob)
    pulling.server.asked.clear()

    assert await pulling.pull(blob) == [BLOCK]
    assert pulling.server.asked == []


async def test_a_killed_pull_is_resumed(pulling):
    """A new agent fetches only the blocks that the old one had not got, and neither the index again."""
    blob = pulling.server.add(data(12 * BLOCK))
    pulling.server.lose[blob.sha256, 3] = pulling.server.lose[blob.sha256, 9] = 100
    with pytest.raises(TransferStalled, match="2 blocks did not come"):
        await pulling.pull(blob)
    pulling.server.lose.clear()
    pulling.server.sent.clear()
    pulling.again()
    await pulling.pull(blob)

    assert pulling.server.sent == [(blob.sha256, 3), (blob.sha256, 9)]
    assert pulling.read(blob) == data(12 * BLOCK)


async def test_a_wrong_block_alone_is_fetched_again(pulling):
    """One block with wrong bytes costs one more block, nothing else."""
    blob = pulling.server.add(data(10 * BLOCK))
    pulling.server.spoil[blob.sha256, 4] = 1
    await pulling.pull(blob)

    assert pulling.server.sent_of(blob) == sorted([*range(10), 4])


async def test_a_pull_gives_up_after_its_tries(pulling):
    """A block that always comes wrong ends the pull with a reason; the others stay."""
    blob = pulling.server.add(data(10 * BLOCK))
    pulling.server.spoil[blob.sha256, 4] = 100
    with pytest.raises(TransferStalled, match="3 times; the first is 4"):
        await pulling.pull(blob)

    assert pulling.server.sent_of(blob).count(4) == 3
    assert not pulling.store.has(blob)
    with pulling.store.open_partial(blob) as stream:
        assert pulling.store.missing(pulling.store.index(blob), stream) == {4}


async def test_silence_is_bounded(pulling):
    """A server that says nothing ends the pull after the tries."""
    blob = pulling.server.add(data(BLOCK))
    pulling.server.silent = True
    with pytest.raises(TransferStalled):
        await pulling.pull(blob)

    assert len(pulling.server.asked) == 3


async def test_a_lost_link_ends_the_pull_at_once(pulling):
    """Without a session nothing is waited for."""
    blob = pulling.server.add(data(40 * BLOCK))
    pulling.server.down = True
    with pytest.raises(LinkLost):
        await pulling.pull(blob)


async def test_an_absent_blob_is_told(pulling):
    """What the server does not have is an error of its own, for the operator."""
    blob = pulling.server.add(data(BLOCK))
    pulling.server.lacks = {blob.sha256}
    with pytest.raises(Missing, match="does not have it"):
        await pulling.pull(blob)


@pytest.mark.parametrize("busy", [1, 50])
async def test_a_busy_server_is_waited_for(pulling, busy):
    """Being asked to wait is no failed try."""
    blob = pulling.server.add(data(5 * BLOCK))
    pulling.server.busy = busy
    await pulling.pull(blob)

    assert pulling.read(blob) == data(5 * BLOCK)


@pytest.mark.parametrize("size", [BLOCK, 2 * BLOCK])
async def test_a_server_that_stays_busy_ends_the_pull(pulling, size):
    """Waiting is bounded."""
    blob = pulling.server.add(data(size))
    pulling.server.busy = 10_000
    with pytest.raises(TransferStalled, match="busy 1"):
        await pulling.pull(blob)


async def test_blocks_of_another_version_are_copied(pulling):
    """What a new version shares with one on the disk is not fetched, wherever it stands in it."""
    old = pulling.server.add(data(8 * BLOCK))
    await pulling.pull(old)
    new = pulling.server.add(b"n" * BLOCK + data(8 * BLOCK))
    await pulling.pull(new)

    assert pulling.server.sent_of(new) == [0]
    assert pulling.read(new) == b"n" * BLOCK + data(8 * BLOCK)


async def test_a_changed_blob_on_disk_is_no_source(pulling):
    """A copied block is checked like a fetched one."""
    old = pulling.server.add(data(3 * BLOCK))
    await pulling.pull(old)
    pulling.store.path(old.sha256).write_bytes(b"x" * 3 * BLOCK)
    new = pulling.server.add(data(4 * BLOCK))
    await pulling.pull(new)

    assert pulling.read(new) == data(4 * BLOCK)


async def test_one_blob_for_two_modules_is_pulled_once(pulling):
    """Two pulls of the same blob at the same time cost one."""
    blob = pulling.server.add(data(5 * BLOCK))
    await asyncio.gather(pulling.pull(blob), pulling.pull(blob))

    assert pulling.server.sent_of(blob) == list(range(5))


async def test_a_cancelled_pull_leaves_no_task_and_can_go_on(pulling):
    """Superseding a pull ends it at once, and the next one is not held up."""
    blob = pulling.server.add(data(30 * BLOCK))
    pulling.server.silent = True
    task = asyncio.create_task(pulling.pull(blob))
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()

    pulling.server.silent = False
    await pulling.pull(blob)


async def test_a_whole_that_is_not_what_was_signed_is_invalid(pulling):
    """Blocks that match a signed index which belongs to other bytes: refused for good, and nothing is left."""
    real = pulling.server.add(data(2 * BLOCK))
    lie = Blob(sha256(b"something else"), real.length, real.blocks)
    pulling.server.blobs[lie.sha256] = data(2 * BLOCK)
    with pytest.raises(Invalid, match="the whole does not"):
        await pulling.pull(lie)

    assert not pulling.store.has(lie)
    assert not list(pulling.folder.glob("*.part"))


async def test_a_wrong_index_is_not_believed(pulling):
    """An index with other bytes than were signed stalls the pull, and none is kept."""
    blob = pulling.server.add(data(2 * BLOCK))
    pulling.server.blobs[blob.blocks] = b"\0" * 64
    with pytest.raises(TransferStalled, match="not what was signed"):
        await pulling.pull(blob)

    assert pulling.store.index(blob) is None


async def test_an_index_that_a_power_cut_tore_is_fetched_again(pulling):
    """A torn index on disk does not stall the pull for ever."""
    blob = pulling.server.add(data(2 * BLOCK))
    pulling.store.keep_index(blob, b"torn")
    await pulling.pull(blob)

    assert pulling.read(blob) == data(2 * BLOCK)


@pytest.mark.parametrize("hostile", ["other numbers", "twice", "no block", "short"])
async def test_blocks_that_nobody_asked_for_do_no_harm(pulling, hostile):
    """A hostile server makes a pull fail or wait, never end with other bytes or an error of ours."""
    blob = pulling.server.add(data(3 * BLOCK))

    def mangle(block):
        other = wire.Block(block.request, block.status, block.number + 77, block.length, block.data)
        short = wire.Block(block.request, block.status, block.number, block.length, block.data[:-1])
        unknown = wire.Block(block.request, 999, block.number, block.length, block.data)
        return {"other numbers": [other], "twice": [block, block], "no block": [unknown], "short": [short]}[hostile]

    pulling.server.mangle = mangle
    try:
        await pulling.pull(blob)
    except TransferStalled:
        assert not pulling.store.has(blob)
    else:
        assert pulling.read(blob) == data(3 * BLOCK)


def test_a_message_that_is_no_block_is_dropped(pulling):
    """Garbage at down/blob, or an answer to nobody, is no error."""
    pulling.puller.on_block(b"\xff")
    pulling.puller.on_block(wire.encode(wire.Block(99, 200, 0, 1, b"x")))

    assert pulling.puller.bytes_received > 0


@pytest.mark.parametrize("size", [0, 10, 2 * BLOCK])
async def test_metadata_comes_in_one_answer(pulling, size):
    """A metadata file is asked for by name and put together from all of its blocks."""
    pulling.server.metadata["timestamp.json"] = data(size)

    assert await pulling.puller.metadata("timestamp.json") == data(size)
    with pytest.raises(Missing):
        await pulling.puller.metadata("2.root.json")


async def test_metadata_of_two_answers_is_not_mixed(pulling):
    """A file that changed between two tries comes as one or the other."""
    pulling.server.metadata["snapshot.json"] = data(3 * BLOCK)
    pulling.server.lose["snapshot.json", 2] = 1
    asked = asyncio.create_task(pulling.puller.metadata("snapshot.json"))
    await asyncio.sleep(0.005)
    pulling.server.metadata["snapshot.json"] = data(2 * BLOCK, salt=100)

    assert await asked == data(2 * BLOCK, salt=100)


async def test_metadata_that_is_too_large_is_not_collected(pulling):
    """What the answer says of its length is bounded before anything is kept."""
    pulling.server.metadata["snapshot.json"] = b"x"
    pulling.server.mangle = lambda block: [wire.Block(block.request, 200, 0, 1 << 40, block.data)]
    with pytest.raises(TransferStalled, match="is taken"):
        await pulling.puller.metadata("snapshot.json")


async def test_metadata_that_somebody_drops_is_given_up_and_delays_no_pull(pulling, monkeypatch):
    """It is asked for again ever later, and given up after a minute of silence; a pull on a link with room for one
    block goes on meanwhile, and learns nothing from it."""
    monkeypatch.setattr(fetch, "METADATA_S", 0.5)
    pulling.more = {"timeout_s": 0.02, "tries": 100}
    pulling.again()
    window = pulling.puller._window
    before = window.blocks, window.patience_s
    pulling.server.metadata["timestamp.json"] = b"{}"
    pulling.server.lose["timestamp.json", 0] = 10_000
    blob = pulling.server.add(data(5 * BLOCK))
    began = asyncio.get_running_loop().time()
    asked = asyncio.create_task(pulling.puller.metadata("timestamp.json"))
    await asyncio.sleep(0.15)
    assert (window.blocks, window.patience_s) == before
    window._level = 1
    await pulling.pull(blob)
    assert not asked.done()

    with pytest.raises(TransferStalled, match="nothing came of it"):
        await asked
    assert 0.5 <= asyncio.get_running_loop().time() - began < stretched(2.0)
    assert 3 <= len([get for get in pulling.server.asked if isinstance(get, wire.MetadataGet)]) <= 5


async def test_metadata_that_comes_slowly_is_not_given_up(pulling, monkeypatch):
    """What a file takes from its first block to its last is the link's business: only silence ends the wait."""
    monkeypatch.setattr(fetch, "METADATA_S", 0.4)
    pulling.more = {"timeout_s": 0.1, "tries": 3}
    pulling.again()
    pulling.server.metadata["snapshot.json"] = data(20 * BLOCK)
    loop, took = asyncio.get_running_loop(), pulling.puller.on_block
    sent = iter(range(1, 100))
    pulling.server.deliver = lambda block: loop.call_later(0.1 * next(sent), took, block)

    assert await pulling.puller.metadata("snapshot.json") == data(20 * BLOCK)


async def test_metadata_whose_first_block_comes_again_and_again_is_given_up(pulling, monkeypatch):
    """Whoever keeps the answer alive with what is there already wins nothing: only new blocks put the end off."""
    monkeypatch.setattr(fetch, "METADATA_S", 0.4)
    pulling.more = {"timeout_s": 0.2, "tries": 1}
    pulling.again()
    pulling.server.metadata["snapshot.json"] = data(2 * BLOCK)
    pulling.server.lose["snapshot.json", 1] = 1
    loop, took, said = asyncio.get_running_loop(), pulling.puller.on_block, []

    def again(block):
        said.append(loop.time())
        took(block)
        if len(said) < 100:
            loop.call_later(0.05, again, block)

    pulling.server.deliver = again
    with pytest.raises(TransferStalled):
        await pulling.puller.metadata("snapshot.json")

    assert 1 < len(said) < 50


async def test_small_blobs_are_bounded_and_checked(pulling):
    """A small blob of too many bytes is not asked for; one of many blocks is put together."""
    blob = pulling.server.add(data(20 * BLOCK))
    assert await pulling.puller.small(blob.sha256, blob.length) == data(20 * BLOCK)
    assert await pulling.puller.small(sha256(b""), 0) == b""
    with pytest.raises(Invalid, match="more than"):
        await pulling.puller.small(blob.sha256, 1 << 30)
