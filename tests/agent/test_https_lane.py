"""The lane for blobs over HTTPS: what comes by it, and that whatever fails there comes over MQTT instead."""

import asyncio
import errno
import logging
import os
import socket
import threading
import time

import pytest

from agent import https_lane
from agent.blobs import BlobStore
from agent.fetch import Puller
from agent.https_lane import HttpsLane, tried
from modules.bucket import BURST_S
from modules.digests import BLOCK
from tests.doubles.blob_server import BlobServer
from tests.doubles.clock import VirtualClock
from tests.doubles.range_server import HOST, RangeServer
from tests.parts.pace import stretched

BLOCKS = 300
DATA = b"".join((number + 1).to_bytes(4, "big") * (BLOCK // 4) for number in range(BLOCKS)) + b"the rest"
SOON_S = 10


class Pulling:
    """A device with both ways to a server, which has the same blobs on both."""

    def __init__(self, folder, mqtt, https, url="") -> None:
        self.mqtt, self.https, self.clock = mqtt, https, VirtualClock()
        self.lane = HttpsLane(url or https.url, https.identity, self.clock)
        self.store = BlobStore(folder)
        self.puller = Puller(mqtt.send, timeout_s=5, tries=3, lane=lambda: self.lane)
        mqtt.deliver = self.puller.on_block

    async def pull(self, data=DATA):
        """Pull a blob of these bytes, which both servers have; how many bytes were told as gained."""
        blob = self.mqtt.add(data)
        gains = []
        await self.puller.blob(blob, self.store, gains.append)
        assert self.store.path(blob.sha256).read_bytes() == data
        assert sum(gains) == len(data)
        return blob


@pytest.fixture
def pulling(tmp_path):
    mqtt = BlobServer()
    with RangeServer(tmp_path / "server", mqtt.blobs) as https:
        yield Pulling(tmp_path / "blobs", mqtt, https)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(https_lane, "SILENT_S", stretched(1.5))


def other(salt):
    """Bytes of which no block is among those of another salt."""
    return bytes([salt]) + DATA.replace(b"\0", bytes([salt]))


async def test_a_large_blob_comes_over_https_alone(pulling):
    """All of its blocks, in ranges that follow each other, the short last one too; its index comes over MQTT."""
    blob = await pulling.pull()

    assert pulling.mqtt.sent_of(blob) == []
    path = f"/blobs/{blob.sha256}"
    assert pulling.https.asked == [
        (path, f"bytes=0-{256 * BLOCK - 1}"),
        (path, f"bytes={256 * BLOCK}-{len(DATA) - 1}"),
    ]
    assert pulling.puller.detour == ""


async def test_a_small_blob_comes_over_mqtt(pulling):
    """A few blocks are not worth a handshake."""
    blob = await pulling.pull(DATA[: 7 * BLOCK])

    assert pulling.https.asked == []
    assert len(pulling.mqtt.sent_of(blob)) == 7


async def test_a_pull_is_resumed_from_the_disk(pulling):
    """Only what is missing is asked for, whichever way the rest came."""
    blob = pulling.mqtt.add(DATA)
    with pulling.store.open_partial(blob) as stream:
        stream.write(DATA[: 100 * BLOCK])
        os.pwrite(stream.fileno(), DATA[200 * BLOCK : 210 * BLOCK], 200 * BLOCK)
    await pulling.pull()

    ranges = [part for _, part in pulling.https.asked]
    assert ranges == [f"bytes={100 * BLOCK}-{200 * BLOCK - 1}", f"bytes={210 * BLOCK}-{len(DATA) - 1}"]


def drip(handler):
    """A byte now and then, never a whole block."""
    while not handler.double.gone.wait(0.1):
        handler.wfile.write(b"\0")


def drip_head(handler):
    while not handler.double.gone.wait(0.1):
        handler.wfile.write(b"H")


def first_bytes(handler, **more):
    handler.says(206, DATA[:BLOCK], **{"Content-Range": f"bytes 0-{BLOCK - 1}/{len(DATA)}"} | more)


ANSWERS = {
    "403": lambda handler: handler.says(403, b"this certificate is revoked"),
    "404": lambda handler: handler.says(404, b"there is no such blob"),
    "503": lambda handler: handler.says(503, b"Service Unavailable"),
    "a redirect": lambda handler: handler.says(302, b"", Location=f"{handler.double.url}/elsewhere"),
    "the whole blob": lambda handler: handler.says(200, DATA),
    "another range": first_bytes,
    "no range": lambda handler: handler.says(206, DATA[: 256 * BLOCK]),
    "a range of another length": lambda handler: handler.says(
        206, DATA[:BLOCK], **{"Content-Range": f"bytes 0-{256 * BLOCK - 1}/{len(DATA)}"}
    ),
    "no HTTP": lambda handler: handler.wfile.write(b"\0\1\2 nonsense\r\n\r\n"),
    "an endless head": lambda handler: [handler.wfile.write(b"a: b\r\n" * 9) for _ in range(1000)],
    "nothing": lambda handler: handler.wait(),
    "a dripping head": drip_head,
    "the end": lambda handler: handler.end(),
}


@pytest.mark.long
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_another_answer_is_no_use(pulling, answer, caplog):
    """Refused, redirected, another range, no HTTP, silence: the blob comes over MQTT, and the log says so once."""
    pulling.https.answer = answer
    blob = await pulling.pull()

    assert len(pulling.mqtt.sent_of(blob)) == BLOCKS + 1
    assert len(pulling.https.asked) == 1
    assert pulling.puller.detour.startswith(f"{pulling.https.url} cannot be used, blobs come over MQTT: ")
    assert [record.levelno for record in caplog.records if record.name == "agent.https_lane"] == [logging.WARNING]


@pytest.mark.long
@pytest.mark.parametrize("then", [lambda one: one.end(), lambda one: one.wait(), drip], ids=["end", "stall", "drip"])
async def test_what_came_before_the_trouble_is_kept(pulling, then):
    """In the middle of a range it ends, stalls, or drips: MQTT brings what is missing and no block twice."""
    pulling.https.after, pulling.https.then = 100 * BLOCK + 5, then
    blob = await pulling.pull()

    assert pulling.mqtt.sent_of(blob) == list(range(100, BLOCKS + 1))


async def test_one_wrong_block_is_left_to_mqtt(pulling):
    """It is never written; the lane goes on with the others and is not left alone."""
    pulling.https.spoil = {17}
    blob = await pulling.pull()
    assert pulling.mqtt.sent_of(blob) == [17]
    assert pulling.puller.detour == ""


async def test_many_wrong_blocks_end_the_lane(pulling):
    """A server that has other bytes is not asked for all of them."""
    pulling.https.spoil = set(range(BLOCKS))
    blob = await pulling.pull()
    assert len(pulling.mqtt.sent_of(blob)) == BLOCKS + 1
    assert "are not what was signed" in pulling.puller.detour


async def test_a_lane_that_failed_is_left_alone_for_a_while(pulling, caplog):
    """Then it is tried again, later each time; one that works is used at once, and the log says so once."""
    pulling.https.answer = ANSWERS["503"]
    for salt, waits, asked in ((1, 0, 1), (2, 40, 1), (3, 90, 2), (4, 90, 2), (5, 90, 3)):
        pulling.clock.advance(waits)
        await pulling.pull(other(salt))
        assert len(pulling.https.asked) == asked
    pulling.https.answer = None
    pulling.clock.advance(3600 * 1.2)
    blob = await pulling.pull(other(6))
    assert pulling.mqtt.sent_of(blob) == []
    assert pulling.puller.detour == ""
    said = [record.message for record in caplog.records if record.name == "agent.https_lane"]
    assert len(said) == 2
    assert "blobs come over HTTPS again" in said[1]


async def test_pulls_at_the_same_time_meet_a_trouble_once(pulling, caplog):
    """Four blobs at once, and the server is away: one line in the log, and the shortest wait."""
    pulling.https.answer = ANSWERS["503"]
    await asyncio.gather(*(pulling.pull(other(salt)) for salt in range(1, 5)))
    assert len([record for record in caplog.records if record.name == "agent.https_lane"]) == 1
    pulling.clock.advance(75)
    pulling.https.answer = None
    blob = await pulling.pull()
    assert pulling.mqtt.sent_of(blob) == []


async def test_a_server_of_another_authority_is_not_asked(tmp_path):
    """A man in the middle, whose certificate is not of the fleet's CA, learns nothing and brings nothing."""
    mqtt = BlobServer()
    with RangeServer(tmp_path / "server", mqtt.blobs, other_ca=True) as https:
        pulling = Pulling(tmp_path / "blobs", mqtt, https)
        await pulling.pull()
        assert https.asked == []
        assert "its certificate is not of this fleet" in pulling.puller.detour
        assert "its certificate is not of this fleet" in tried(https.url, https.identity)


async def test_a_server_of_another_name_is_not_asked(tmp_path):
    """A certificate of the fleet's CA is no use under another name."""
    mqtt = BlobServer()
    with RangeServer(tmp_path / "server", mqtt.blobs, name="other.example") as https:
        pulling = Pulling(tmp_path / "blobs", mqtt, https)
        await pulling.pull()
        assert https.asked == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1", "no https address"),
        ("https://", "no https address"),
        ("https://127.0.0.1:99999", "cannot be read"),
        ("https://[", "cannot be read"),
        ("https://127.0.0.1:1", "refused"),
        ("https://no-such-host.invalid", ""),
        ("https://a\nb.example", ""),
        ("https://127.0.0.1:1/\r\nX: y", ""),
        ("nonsense", "no https address"),
    ],
)
async def test_an_address_that_is_no_use_is_no_harm(pulling, tmp_path, url, why):
    """Mistyped, unreachable, unknown: over MQTT, with the reason."""
    wrong = Pulling(tmp_path / "others", pulling.mqtt, pulling.https, url)
    await wrong.pull()
    assert why in wrong.puller.detour
    assert wrong.puller.detour != ""


async def test_a_device_without_its_files_says_so(pulling):
    """Half an identity: the lane is no use, and the reason names the folder's files."""
    (pulling.https.identity / "key.pem").write_text("no key")
    await pulling.pull()
    assert "the files for TLS cannot be used" in pulling.puller.detour


async def test_a_full_disk_is_the_disks_trouble(pulling, monkeypatch):
    """It is no reason to ask the broker for the same bytes."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        await pulling.pull()
    assert pulling.puller.detour == ""


async def test_who_is_cancelled_leaves_no_thread_behind(pulling, monkeypatch):
    """The stream is closed after a pull: nobody may write to it any more, and nobody waits for the server."""
    monkeypatch.setattr(https_lane, "SILENT_S", 60.0)
    pulling.https.after, pulling.https.then = 5, lambda one: one.wait()
    reads, take = threading.Event(), https_lane._Connection.take
    monkeypatch.setattr(https_lane._Connection, "take", lambda *given: (reads.set(), take(*given)))
    pull = asyncio.create_task(pulling.pull())
    assert await asyncio.to_thread(reads.wait, SOON_S)
    begun = time.monotonic()
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    assert time.monotonic() - begun < SOON_S
    assert not any(task.get_name() == "https-lane" for task in asyncio.all_tasks())


async def test_the_environments_proxy_is_used_for_a_tunnel(pulling, monkeypatch):
    """As for enrolment; one that is away is no harm."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    await pulling.pull()
    assert pulling.https.asked == []
    assert "refused" in pulling.puller.detour


def test_doctor_says_whether_it_can_be_used(pulling):
    """Nothing where it can; where not, why."""
    assert tried(pulling.https.url, pulling.https.identity) == ""
    assert "refused" in tried("https://127.0.0.1:1", pulling.https.identity)


def test_a_broker_like_silence_before_tls_is_bounded(pulling, monkeypatch):
    """Somebody takes the connection and says nothing."""
    monkeypatch.setattr(https_lane, "_CONNECT_S", 0.3)
    with socket.create_server((HOST, 0)) as silent:
        begun = time.monotonic()
        why = tried(f"https://{HOST}:{silent.getsockname()[1]}", pulling.https.identity)
    assert "in time" in why
    assert time.monotonic() - begun < SOON_S


async def test_a_limit_of_the_device_holds_here_too(pulling):
    """32 blocks at a megabyte a second take two seconds, within a seventh; nothing of them comes over MQTT."""
    size, rate = 32 * BLOCK, 1 << 20
    pulling.puller = Puller(pulling.mqtt.send, timeout_s=5, tries=3, lane=lambda: pulling.lane, limit=rate)
    pulling.mqtt.deliver = pulling.puller.on_block
    began = time.monotonic()
    blob = await pulling.pull(DATA[:size])

    assert (size / rate - BURST_S) * 0.85 < time.monotonic() - began < stretched(size / rate * 1.15)
    assert pulling.mqtt.sent_of(blob) == []
    assert len(pulling.https.asked) == 32, "the server sends all of a range at once"
