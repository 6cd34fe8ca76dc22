"""A thousand clients at once at a scoring server's Unix socket: good, slow, large, broken, and gone in the middle."""

import asyncio
import contextlib
import json
import os
import resource
import socket
from collections import Counter

import numpy as np

CLIENTS = 1000
LARGE = 100 << 20
RETRY_S = 0.2
LIMITS = json.dumps({"max_body": LARGE, "max_held": 3 * LARGE})
GOOD = b'{"data": [[1, -1, 2, -2]]}'
# What y = max(x, 0) of float32[N, 4] answers: body -> status, and what the reason must say.
GRAPH_CASES = [
    (GOOD, 200, ""),
    (b"{", 400, "not valid JSON"),
    (b'{"data": [[1, 2]]}', 400, "expected float32[N, 4], got shape [1, 2]"),
    (b'{"data": [[1, 2, 3, NaN]]}', 200, ""),
    (b'{"data": [[1, 2, 3, null]]}', 200, ""),
    (b'{"data": [[1, 2, 3, 1e999]]}', 400, ""),
    (b'{"data": [["1", 2, 3, 4]]}', 400, "expected float32[N, 4]"),
    (b'{"other": 1}', 400, "expected a JSON object with the keys x"),
    (b"\xff\xfe", 400, "not valid JSON"),
    (b"[" * 5000, 400, "not valid JSON"),
    (b"", 400, "not valid JSON"),
]


@contextlib.contextmanager
def many_files():
    """Let this process, and servers that it starts meanwhile, open as many files as these clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * CLIENTS)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connect(path):
    """Connect to a Unix socket, whose queue may be full: asyncio itself takes that for a connection on its way."""
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(0)
    while True:
        try:
            one.connect(str(path))
        except BlockingIOError:
            await asyncio.sleep(0.005)
        else:
            return await asyncio.open_unix_connection(sock=one)


async def close(writer):
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class RoughClients:
    """Rounds of all of them; ``answers`` counts the statuses of their answers.

    Each answer is checked: its status and reason must be those of its case. Where ``patient``, who is told 429 with a
    reason asks again, since a script that runs one request at a time cannot take a thousand.
    """

    def __init__(self, path, cases, *, patient=False):
        self._path = path
        self._cases = cases
        self._patient = patient
        self.answers = Counter()

    async def round(self):
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._steady(number))
            for place in (10, 60, 5000, 100_000, None):
                for _ in range(10):
                    group.create_task(self._vanishing(place))
            for _ in range(20):
                group.create_task(self._slow())
                group.create_task(self._too_large())
                group.create_task(self._nonsense())
            group.create_task(self._large())

    async def _steady(self, number):
        """Several requests on one connection, good and bad in turn; each has its own right answer."""
        reader, writer = await connect(self._path)
        for turn in range(3):
            body, status, said = self._cases[(number + turn) % len(self._cases)]
            await self._asked(reader, writer, _post(body), status, said)
        await close(writer)

    async def _slow(self):
        """One byte after another, and still answered."""
        reader, writer = await connect(self._path)
        *bytewise, last = _post(GOOD)
        for byte in bytewise:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(bytes([last]))
        if await self._answer(reader, 200, "") is None:
            await self._asked(reader, writer, _post(GOOD), 200, "")
        await close(writer)

    async def _vanishing(self, place):
        """Gone in the middle of the head, of the body, or before the answer."""
        _, writer = await connect(self._path)
        writer.write(_post(b" " * 100_000)[:place])
        await writer.drain()
        await close(writer)

    async def _large(self):
        """A body as large as is allowed, answered with as many bytes."""
        reader, writer = await connect(self._path)
        body = np.ones(LARGE // 4, np.float32).tobytes()
        request = _post(body, "content-type: application/octet-stream", "accept: application/octet-stream")
        assert await self._asked(reader, writer, request, 200, "") == body
        await close(writer)

    async def _too_large(self):
        """Refused by the announced length, with a reason, before the body comes."""
        reader, writer = await connect(self._path)
        await self._asked(reader, writer, _post(b"", length=LARGE + 1), 413, "larger than")
        await close(writer)

    async def _nonsense(self):
        """What is no HTTP is 400 with a reason."""
        reader, writer = await connect(self._path)
        await self._asked(reader, writer, os.urandom(64) + b"\r\n\r\n", 400, "not an HTTP request")
        await close(writer)

    async def _asked(self, reader, writer, request, expected, said):
        """Send it, again where the server is busy; returns the answer's body."""
        writer.write(request)
        while (text := await self._answer(reader, expected, said)) is None:
            await asyncio.sleep(RETRY_S)
            writer.write(request)
        return text

    async def _answer(self, reader, expected, said):
        """The body of the answer that was expected; None where the server is busy."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        (length,) = [int(line.partition(":")[2]) for line in head.splitlines() if line.startswith("content-length")]
        status, text = int(head.split()[1]), await reader.readexactly(length)
        self.answers[status] += 1
        if status >= 400:
            assert json.loads(text)["message"]
        if status == 429 and self._patient:
            assert "retry-after" in head
            return None
        assert (status, status == 200 or said in text.decode()) == (expected, True), (head, text[:200])
        return text


def _post(body, *more, length=None):
    head = ["POST /score HTTP/1.1", f"content-length: {len(body) if length is None else length}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body
