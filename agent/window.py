"""How many blocks may be on their way at once, and how long to wait for one: both follow the link.

A quick link is kept full with 16 blocks of 64 KiB (measured: more gains nothing). On a slow one as many would fill it
for minutes, and whatever else comes, an order or a receipt, would wait behind them. So the window holds about two
seconds of the link, which the gap tells between two blocks that were asked for together: the server sends those at
once. How long to wait is learned from every block, as TCP does, and doubled after each time that nothing came.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from modules.digests import BLOCK
from modules.latencies import median
from modules.names import Digest
from modules.protocol.blobs import OK, Block, Shared

# Blocks in flight, and how many of them one request asks for.
LEVELS: Final = {1: 1, 2: 2, 4: 2, 8: 4, 16: 8}
# What may wait in front of an order that comes; two blocks where even they take longer, one on a link of bytes.
_QUEUE_S: Final = 2.0
_CRAWL_S: Final = 10.0
# A burst after a lost packet looks like a quick link, but not several times.
_GAPS_KEPT: Final = 5
_LONGEST_S: Final = 300.0


class Window:
    """One for all pulls of a device. ``least_s`` is how long a block is waited for on the quickest link."""

    def __init__(self, *, least_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._least_s = least_s
        self.now = now
        self._level = 2
        self._flying = 0
        self._request = 0
        self._flights: dict[int, Flight] = {}
        self._room: deque[asyncio.Future[None]] = deque()
        self._gaps: deque[float] = deque(maxlen=_GAPS_KEPT)
        self._usual = self._spread = 0.0
        self._silences = 0
        # When the last block of all came.
        self.heard = 0.0

    @property
    def request(self) -> int:
        """How many blocks to ask for at once."""
        return LEVELS[self._level]

    @property
    def blocks(self) -> int:
        """How many blocks may be on their way."""
        return self._level

    @property
    def measured(self) -> bool:
        """Whether it is known how quick the link is."""
        return bool(self._gaps)

    @property
    def patience_s(self) -> float:
        """How long to wait for a block while none comes."""
        return min(self.learned_s * 2.0 ** min(self._silences, 10), _LONGEST_S)

    @property
    def learned_s(self) -> float:
        """How long a block may take by what was learned of the link, whatever did not come lately."""
        # Unmeasured: a block of 64 KiB takes eight seconds at 64 kbit/s.
        learned = self._usual + 4 * self._spread if self._usual else 3 * self._least_s
        return max(self._least_s, learned)

    @contextlib.asynccontextmanager
    async def flight(
        self, blocks: int, *, urgent: bool = False, apart: bool = False, counts: bool = True
    ) -> "AsyncIterator[Flight]":
        """Room for one request of so many blocks; an urgent one waits for nobody, one apart takes no room, either.

        That nothing came says nothing of the link where the request does not count.
        """
        while not urgent and not apart and self._flying and self._flying + blocks > self._level:
            waiting = asyncio.get_running_loop().create_future()
            self._room.append(waiting)
            await waiting
        blocks = 0 if apart else blocks
        self._flying += blocks
        self._request += 1
        flight = self._flights[self._request] = Flight(self, self._request)
        try:
            yield flight
            self._learn(flight.gaps)
        except TimeoutError:
            if counts and not flight.shared:  # a broadcast has its own pace, which says nothing of this link
                self._lost()
            raise
        finally:
            self._flying -= blocks
            del self._flights[flight.request]
            while self._room:
                waiting = self._room.popleft()
                if not waiting.done():
                    waiting.set_result(None)

    def put(self, block: Block) -> None:
        """A block has come. One of an earlier request, or of none, is dropped: it says only that the link is alive."""
        if flight := self._flights.get(block.request):
            flight.put(block)
        self.heard = self.now()

    def share(self, blob: Digest, shared: Shared) -> None:
        """A block has come for all, and for each request here that waits for it."""
        for flight in self._flights.values():
            if flight.blob == blob and shared.number in flight.waits_for:
                flight.put_shared(Block(flight.request, OK, shared.number, shared.length, shared.data))
        self.heard = self.now()

    def others(self, flight: "Flight") -> tuple[int, ...]:
        """The other requests that wait for a broadcast of the same blob."""
        return tuple(
            number for number, one in self._flights.items() if one.shared and one.blob == flight.blob and one != flight
        )[:8]

    def took(self, gap: float) -> None:
        """A full block took so many seconds on this link alone."""
        self.came(gap)
        self._learn([gap])

    def came(self, waited: float) -> None:
        """A full block came, for which the link had ``waited`` seconds."""
        self._silences = 0
        if not self._usual:
            self._usual, self._spread = waited, waited / 2
            return
        self._spread += (abs(waited - self._usual) - self._spread) / 4
        self._usual += (waited - self._usual) / 8

    def _learn(self, gaps: list[float]) -> None:
        if not gaps:
            return
        self._gaps.append(sum(gaps) / len(gaps))
        gap = median(self._gaps)
        if gap > _CRAWL_S:
            self._level = 1
        else:
            self._level = max((level for level in LEVELS if level * gap <= _QUEUE_S), default=2)
            self._level = max(self._level, 2)

    def _lost(self) -> None:
        """Nothing came for longer than it should: ask for less, and wait longer."""
        self._silences += 1
        self._level = max(self._level // 2, 1)
        self._gaps.clear()


class Flight:
    """One request on its way, by its number: its blocks, and whether to wait for more of them."""

    def __init__(self, window: Window, request: int) -> None:
        self.request = request
        self._window = window
        self._blocks: asyncio.Queue[Block] = asyncio.Queue()
        self._first = True
        self._last = window.now()
        # What may come by a broadcast, too: of this blob, these blocks. ``least_s``: it comes at its own pace.
        self.blob: Digest | None = None
        self.waits_for: set[int] = set()
        self.shared = False
        self.least_s = 0.0
        # Seconds between its blocks, as far as the link had nothing else to carry.
        self.gaps: list[float] = []

    def put(self, block: Block) -> None:
        """A block of this request has come."""
        now = self._window.now()
        waited = now - max(self._last, self._window.heard)
        # A short one says nothing of the link, nor does one that waited for other devices.
        if len(block.data) > BLOCK // 2 and not self.shared:
            self._window.came(waited)
            # The first one says how long the way is, too, so it counts only where nothing else can be known.
            if not self._first or self._window.request == 1:
                self.gaps.append(waited)
        self._first = False
        self._last = now
        self._blocks.put_nowait(block)

    def put_shared(self, block: Block) -> None:
        """A block of this request has come for all, from which nothing is learned of the link."""
        self.waits_for.discard(block.number)
        self._last = self._window.now()
        self._blocks.put_nowait(block)

    async def next(self) -> Block:
        """The next block.

        Raises:
            TimeoutError: no block came at all for as long as one may take, or long none of this request.
        """
        while True:
            patience = max(self._window.patience_s, self.least_s)
            ends = min(max(self._last, self._window.heard) + patience, self._last + 4 * patience)
            if (left := ends - self._window.now()) <= 0 and self._blocks.empty():
                raise TimeoutError
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0.0)):
                    return await self._blocks.get()
