"""The fleet server's side of a pull: answers requests for blocks out of memory, and fails as it is told."""

import asyncio
from collections import Counter
from collections.abc import Callable

from modules.digests import BLOCK, Blob, measure_bytes, sha256
from modules.errors import LinkLost
from modules.names import Digest
from modules.protocol import blobs as wire


class BlobServer:
    """``send`` is what a ``Puller`` calls; ``deliver`` is given the answers, each in a turn of its own of the loop.

    Faults count down: ``lose`` and ``spoil`` are how often block ``(digest, number)`` gets lost or comes wrong,
    ``lacks`` are digests that it has not got, ``busy`` is how many of the next requests are told to wait. ``silent``:
    no answer at all; ``down``: no link.
    ``mangle`` may turn each block into any others. ``sent`` lists every block that was delivered, right or wrong.
    """

    def __init__(self, blobs: dict[Digest, bytes] | None = None, metadata: dict[str, bytes] | None = None) -> None:
        self.blobs = {} if blobs is None else blobs
        self.metadata = {} if metadata is None else metadata
        self.deliver: Callable[[bytes], None] = lambda _: None
        self.lose: Counter[tuple[str, int]] = Counter()
        self.spoil: Counter[tuple[str, int]] = Counter()
        self.lacks: set[str] = set()
        self.busy = 0
        self.silent = False
        self.down = False
        self.mangle: Callable[[wire.Block], list[wire.Block]] = lambda block: [block]
        self.asked: list[wire.Get] = []
        self.sent: list[tuple[str, int]] = []

    def add(self, data: bytes) -> Blob:
        """Offer a blob and its block index."""
        blob = measure_bytes(data)
        self.blobs[blob.sha256] = data
        self.blobs[blob.blocks] = index_of(data)
        return blob

    async def send(self, payload: bytes) -> None:
        if self.down:
            raise LinkLost("there is no session with the broker", element="double")
        get = wire.decode_get(payload)
        self.asked.append(get)
        if not self.silent:
            for block in self._answer(get):
                for one in self.mangle(block):
                    asyncio.get_running_loop().call_soon(self.deliver, wire.encode(one))
        await asyncio.sleep(0)

    def sent_of(self, blob: Blob) -> list[int]:
        """The numbers of the blocks of this blob that were delivered, sorted."""
        return sorted(number for name, number in self.sent if name == blob.sha256)

    def _answer(self, get: wire.Get) -> list[wire.Block]:
        if self.busy:
            self.busy -= 1
            return [wire.Block(get.request, wire.BUSY, 0, 0, b"too many requests at once")]
        if isinstance(get, wire.BlobGet):
            name, data, numbers = str(get.digest), self.blobs.get(get.digest), get.numbers
        else:
            name, data = get.name, self.metadata.get(get.name)
            numbers = list(range(max(1, -(-len(data or b"") // BLOCK))))
        if data is None or name in self.lacks:
            return [wire.Block(get.request, wire.MISSING, 0, 0, b"there is none")]
        return [block for number in numbers if (block := self._block(get.request, name, number, data))]

    def _block(self, request: int, name: str, number: int, data: bytes) -> wire.Block | None:
        if self.lose[name, number]:
            self.lose[name, number] -= 1
            return None
        self.sent.append((name, number))
        part = data[number * BLOCK : (number + 1) * BLOCK]
        if self.spoil[name, number]:
            self.spoil[name, number] -= 1
            part = bytes(byte ^ 0xFF for byte in part)
        return wire.Block(request, wire.OK, number, len(data), part)


def index_of(data: bytes) -> bytes:
    """The block index of these bytes, written down a second time so that a test does not believe the product."""
    parts = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    return b"".join(bytes.fromhex(sha256(part).removeprefix("sha256:")) for part in parts)
