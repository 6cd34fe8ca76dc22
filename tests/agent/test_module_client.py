"""Asking a module: whatever it does to its socket or says on it, the agent is neither led elsewhere nor held up."""

import asyncio
import os
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent import module_socket
from agent.health import ask, status
from agent.module_client import BadAnswer, request
from agent.module_socket import NotAModule
from modules.errors import NotReady

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"


@asynccontextmanager
async def module(path, *pieces, pause_s=0.0):
    """Somebody who listens at ``path``, and answers each request with these pieces; yields what was asked."""
    asked = []

    async def answer(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            for piece in pieces:
                if reader.at_eof():
                    break
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except ConnectionError:
            pass  # the agent has had enough, as it should
        finally:
            writer.close()

    async with await asyncio.start_unix_server(answer, path):
        yield asked


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def get(path, *, timeout_s=2.0, limit=100):
    return await request(str(path), "GET", "/", timeout_s=timeout_s, limit=limit)


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1;x=y\r\n]\r\n0\r\n\r\n",
    ],
    ids=["length", "to the end", "chunked"],
)
async def test_an_answer_is_read_whichever_way_its_length_is_said(folder, answer):
    """A length, chunks, or the end of the connection."""
    async with module(folder / "s", answer):
        found = await get(folder / "s")
        assert (found.status, found.body) == (200, b"[]")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"garbage\r\n\r\n", "does not begin like"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "answered 101"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, "longer than the 100"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", "not clear"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "not clear"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "not clear"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "not clear"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", "no proper length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", "no proper length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nx", "longer than the 100"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz0\r\n\r\n", "longer than it says"),
        (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n", "not a field"),
        (b"HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n", "not a field"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[", "broke off"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 101, "longer than the 100"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (64 << 10) + b"\r\n\r\n", "never ended its lines"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_is_not_plain_http_within_its_bounds_is_no_answer(folder, answer, words):
    """Each is refused in words, and the health check takes it for silence."""
    async with module(folder / "s", answer):
        with pytest.raises(BadAnswer, match=words):
            await get(folder / "s")
        assert await ask(str(folder / "s"), "GET", "/", timeout_s=2.0, limit=100) is None


@pytest.mark.parametrize(
    "pieces",
    [[b"H"] * 1000, [OK[:20], *[b"X: y\r\n"] * 1000], [OK[:-1], *[b""] * 1000]],
    ids=["drip", "endless", "stall"],
)
async def test_one_deadline_holds_for_all_of_a_request(folder, pieces):
    """An answer that drips, never ends its head, or stalls, takes no longer than was allowed for all of it."""
    async with module(folder / "s", *pieces, pause_s=0.05):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await get(folder / "s", timeout_s=0.3)
    assert time.monotonic() - began < 2.0


async def test_a_module_that_does_not_accept_holds_nobody_up(folder):
    """A full backlog fails a connect at once; it is tried again until the deadline, and is no connection."""
    listener = module_socket.socket.socket(module_socket.socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen(0)
    with listener:
        first = asyncio.create_task(get(folder / "s", timeout_s=1.0))
        second = asyncio.create_task(get(folder / "s", timeout_s=0.3))
        results = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(result) for result in results] == [TimeoutError, TimeoutError]


async def test_a_symlink_is_not_followed(folder):
    """A module that puts a link to somebody else's socket at the place of its own reaches nobody through the agent."""
    own = folder / "i"
    own.mkdir()
    async with module(folder / "engine.sock", OK) as asked:
        (own / "s.sock").symlink_to(folder / "engine.sock")
        with pytest.raises(NotAModule, match="not a socket"):
            await get(own / "s.sock")
        (own / "s.sock").unlink()
        own.rmdir()
        own.symlink_to(folder)
        (folder / "s.sock").hardlink_to(folder / "engine.sock")
        with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
            await get(own / "s.sock")

    assert asked == []


@pytest.mark.parametrize("what", ["file", "fifo", "folder"])
async def test_what_is_not_a_socket_is_not_opened(folder, what):
    """A FIFO would hang who opens it; a device would be read."""
    path = folder / "s.sock"
    {"file": path.touch, "folder": path.mkdir, "fifo": lambda: os.mkfifo(path)}[what]()
    with pytest.raises(NotAModule, match="not a socket"):
        await get(path)


async def test_a_stranger_who_listens_there_is_not_spoken_with(folder, monkeypatch):
    """Only the containers' user and the owner of the folder are modules; whoever else listens gets not one byte."""
    monkeypatch.setattr(module_socket, "peer_uid", lambda _: 4711)
    async with module(folder / "s", OK) as asked:
        with pytest.raises(NotAModule, match="user 4711 listens"):
            await get(folder / "s")

    assert asked == []


async def test_the_kernel_names_the_peer(folder):
    """What is compared is the credentials of who listens."""
    async with module(folder / "s", OK):
        connection = await module_socket.connect(str(folder / "s"))
        with connection:
            assert module_socket.peer_uid(connection) == os.getuid()


async def test_no_descriptor_is_left_open(folder):
    """Neither an answer, nor a refusal, nor a deadline leaves one behind: this happens every few seconds for years."""
    before = descriptors()
    (folder / "link").symlink_to("s")
    async with module(folder / "s", OK[:-1], pause_s=0.01):
        for path in (folder / "s", folder / "link", folder / "none"):
            for _ in range(5):
                with pytest.raises((BadAnswer, OSError)):
                    await get(path)
        await asyncio.sleep(0)
    assert descriptors() <= before + 1


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[" * 100_000,
        b'{"ready": true, "provider_in_use": "' + b"x" * 201 + b'"}',
        b'{"ready": true, "provider_in_use": "Evil\\u001b[2J"}',
        b'{"ready": true, "provider_in_use": 9007199254740993}',
    ],
    ids=["nothing", "deep", "long", "unknown", "number"],
)
def test_a_status_is_known_words_or_none_at_all(body):
    """What a module says of its provider goes into reports and terminals: it is one of ONNX Runtime's, or a failure."""
    with pytest.raises(NotReady, match=r"status cannot be read|unknown execution provider"):
        status(body, "i")
