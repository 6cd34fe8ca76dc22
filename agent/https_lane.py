"""The fast lane: a blob's missing blocks by HTTPS range requests, from the fleet server itself where it can be reached.

MQTT is the way that always works; this one spares the broker and is quicker. Both ends show certificates of the fleet's
own CA, and every block is held against the signed index before it is written, as in ``agent/fetch.py``. Whatever goes
wrong here (no route, another certificate, a refusal, wrong or missing bytes, silence) ends in the same way: what is
missing comes over MQTT, and this lane is left alone for a while.

``http.client`` in a worker thread, a connection for each blob; loaded when the first large blob is wanted.
"""

import asyncio
import contextlib
import http.client
import logging
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from agent.broker_tls import mutual
from agent.clock import Clock, backoff
from modules.bucket import Bucket
from modules.digests import BLOCK, Blob, block_matches, sha256
from modules.endpoint.https_proxy import connection, parsed
from modules.errors import BadSettings
from modules.names import Digest

_log = logging.getLogger(__name__)
# Fewer missing blocks are as soon here over MQTT, without another TLS handshake.
LEAST: Final = 8
# Blocks of one request.
_REQUEST: Final = 256
# How long the thread reads before what has arrived is told.
_TURN_S: Final = 0.5
# No whole block, or no answer, for so long: the lane is no use. Slower links than 2 KiB/s take MQTT.
SILENT_S: Final = 30.0
# Blocks of one blob that may come wrong, and are left to MQTT, before all of them are.
_WRONG: Final = 3
_CONNECT_S: Final = 10.0
_ASIDE_FIRST_S: Final = 60.0
_ASIDE_MOST_S: Final = 3600.0

T = TypeVar("T")


class _Trouble(Exception):
    """Why the lane cannot be used, in words."""


class HttpsLane:
    """One for all pulls of a device. ``url`` is where the server listens, ``folder`` the device's identity."""

    def __init__(self, url: str, folder: Path, clock: Clock) -> None:
        self._url, self._folder, self._clock = url, folder, clock
        self._failures = 0
        self._not_before = 0.0
        self._why = ""

    async def bring(
        self,
        blob: Blob,
        index: bytes,
        missing: set[int],
        stream: BinaryIO,
        progress: Callable[[int], None],
        bucket: Bucket,
    ) -> str:
        """Fetch what can be had of the missing blocks, which leave ``missing`` as they are written.

        No faster than the bucket fills: each block is asked for alone then, for the server sends a range as a whole.

        Returns why the rest has to come over MQTT; empty where the lane is well. Never raises for what the network or
        the server did; a disk that cannot be written is the caller's.
        """
        if len(missing) < LEAST or self._clock.monotonic() < self._not_before:
            return self._why
        one = _Connection(self._url, self._folder)
        wrong: set[int] = set()
        try:
            await one.call(one.open, within_s=2 * SILENT_S)
            while run := next(_runs(missing - wrong, 1 if bucket.rate else _REQUEST), None):
                await asyncio.sleep(bucket.take(sum(map(blob.block_length, run))))
                await one.call(one.ask, blob, run, within_s=2 * SILENT_S)
                while run:
                    arrived: list[int] = []
                    try:
                        await one.call(one.take, run, arrived, wrong, blob, index, stream)
                    finally:
                        for number in arrived:
                            missing.discard(number)
                            progress(blob.block_length(number))
                    _check(wrong, blob)
        except _Trouble as error:
            self._set_aside(str(error))
        else:
            self._is_well()
            if wrong:
                _log.warning("%s: %d blocks of %s came wrong, they come over MQTT", self._url, len(wrong), blob.sha256)
        finally:
            one.close()
        return self._why

    def _set_aside(self, why: str) -> None:
        if not self._why:
            _log.warning("%s: blobs come over MQTT for now: %s", self._url, why)
        if self._clock.monotonic() >= self._not_before:  # another pull may have met the same trouble just now
            self._failures += 1
            wait = backoff(self._failures, first_s=_ASIDE_FIRST_S, most_s=_ASIDE_MOST_S)
            self._not_before = self._clock.monotonic() + wait
        self._why = f"{self._url} cannot be used, blobs come over MQTT: {why}"

    def _is_well(self) -> None:
        if self._why:
            _log.warning("%s: blobs come over HTTPS again", self._url)
        self._failures, self._not_before, self._why = 0, 0.0, ""


class _Connection:
    """One TLS connection. ``call`` runs the other methods in a thread; they raise _Trouble, or OSError of the disk."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._http: http.client.HTTPSConnection | None = None
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None

    async def call(self, method: Callable[..., T], *arguments: object, within_s: float | None = None) -> T:
        """Never leaves the thread behind: it writes to the caller's stream."""
        task = asyncio.create_task(asyncio.to_thread(method, *arguments), name="https-lane")
        try:
            await asyncio.wait([task], timeout=within_s)
        finally:
            if late := not task.done():
                self._cut()
                await asyncio.wait([task])
                task.exception()
        if late:
            raise _Trouble("it does not answer in time")
        return task.result()

    def open(self) -> None:
        with _explained():
            address = parsed(self._url, "blob_url", "correct the setting")
            if address.scheme != "https" or not address.hostname:
                raise _Trouble("it is no https address")
            self._path = address.path.rstrip("/")
            self._http = connection(address, mutual(self._folder), timeout_s=_CONNECT_S)
            self._http.connect()
            self._socket = self._http.sock
            self._socket.settimeout(SILENT_S)

    def head(self, digest: Digest) -> int:
        """The status for a blob."""
        with _explained():
            return self._asked("HEAD", digest, {}).status

    def ask(self, blob: Blob, run: deque[int]) -> None:
        """Begin the answer with these blocks, which follow each other."""
        first, last = run[0] * BLOCK, min((run[-1] + 1) * BLOCK, blob.length) - 1
        with _explained():
            if self._response is not None:
                self._response.close()  # the one before was read to its end; http.client wants to be told
            response = self._response = self._asked("GET", blob.sha256, {"Range": f"bytes={first}-{last}"})
            if response.status != http.client.PARTIAL_CONTENT:  # a redirect, too: nobody is followed anywhere
                said = response.read1(300).decode(errors="replace")
                raise _Trouble(f"the server answers {response.status} to a range of {blob.sha256}: {said}")
            part = response.headers.get("Content-Range", "")
            if part != f"bytes {first}-{last}/{blob.length}" or response.length != last - first + 1:
                raise _Trouble(f"the server answers with another range of {blob.sha256}: {part[:100]!r}")

    def take(
        self, run: deque[int], arrived: list[int], wrong: set[int], blob: Blob, index: bytes, stream: BinaryIO
    ) -> None:
        """Read the next blocks of the run for a while, and write the right ones; each moves from ``run`` on."""
        ends = time.monotonic() + _TURN_S
        while run and time.monotonic() < ends:
            data = self._block(blob.block_length(run[0]))
            number = run.popleft()
            if block_matches(index, number, data):
                os.pwrite(stream.fileno(), data, number * BLOCK)
                arrived.append(number)
            else:
                wrong.add(number)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._http is not None:
            self._http.close()

    def _asked(self, method: str, digest: Digest, headers: dict[str, str]) -> http.client.HTTPResponse:
        if self._http is None:
            raise _Trouble("it is not open")
        self._http.request(method, f"{self._path}/blobs/{digest}", headers=headers | {"Accept-Encoding": "identity"})
        return self._http.getresponse()

    def _block(self, length: int) -> bytes:
        parts, left, ends = [], length, time.monotonic() + SILENT_S
        with _explained():
            while left:
                patience = ends - time.monotonic()
                if self._response is None or self._socket is None or patience <= 0:
                    raise _Trouble(f"no block came within {SILENT_S:.0f} s")
                self._socket.settimeout(patience)
                part = self._response.read1(left)
                if not part:
                    raise _Trouble("the server ended in the middle of a range")
                parts.append(part)
                left -= len(part)
        return b"".join(parts)

    def _cut(self) -> None:
        """End what a thread waits for. Not ``SSLSocket.shutdown``: the thread would go on without TLS."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def tried(url: str, folder: Path) -> str:
    """Why blobs cannot be fetched from there, tried now; empty where they can. Blocking."""
    one = _Connection(url, folder)
    try:
        one.open()
        # There is no such blob; a server that lets this device in says so.
        status = one.head(sha256(b"edgefleet-agent doctor"))
    except _Trouble as error:
        return str(error)
    finally:
        one.close()
    return "" if status == http.client.NOT_FOUND else f"the server answers {status}"


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BadSettings as error:
        raise _Trouble(error.message) from error
    except TimeoutError as error:
        raise _Trouble("it does not answer in time") from error
    except ssl.SSLCertVerificationError as error:
        raise _Trouble(f"its certificate is not of this fleet: {error.verify_message}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Trouble(str(error) or type(error).__name__) from error


def _check(wrong: set[int], blob: Blob) -> None:
    if len(wrong) > _WRONG:
        raise _Trouble(f"{len(wrong)} blocks of {blob.sha256} are not what was signed")


def _runs(numbers: Iterable[int], longest: int) -> Iterator[deque[int]]:
    """Rows of blocks that follow each other, from the lowest on; none longer than one request may be."""
    run: deque[int] = deque()
    for number in sorted(numbers):
        if run and (number != run[-1] + 1 or len(run) == longest):
            yield run
            run = deque()
        run.append(number)
    if run:
        yield run
