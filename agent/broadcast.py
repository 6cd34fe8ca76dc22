"""What this device takes from broadcasts: the shared topics that it reads while it pulls their blobs.

The server invites; this side accepts, unless its setting or its link speaks against it. A message that was broadcast
cannot be called back: what waits in the broker for a slow link is before every order. So each block is announced right
before it is sent, and where the block then takes longer than an order may wait, the device leaves, and pulls by itself.
The server gives it the time to find that out before it goes on.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, Literal

import msgspec

from agent.window import Flight, Window
from modules.digests import BLOCK
from modules.errors import Invalid, LinkLost
from modules.names import Digest
from modules.protocol.blobs import ALONE, COULD, JOINED, LEFT, BlobGet, Shared, decode_shared, encode

_log = logging.getLogger(__name__)

Taking = Literal["auto", "always", "never"]
Subscribe = Callable[[Digest], Coroutine[Any, Any, None]]

# A block that takes longer is too much for an order to wait behind: 64 KiB in two seconds are 256 kbit/s.
SLOW_S: Final = 2.0
# The window of a link that is quick enough.
QUICK: Final = 8
# How long a block of a broadcast is waited for: at first, while devices gather, and once it goes.
GATHERING_S: Final = 15.0
GOING_S: Final = 8.0
# Times in one pull that a broadcast may bring nothing; and wrong blocks in it.
_SILENCES: Final = 2
_WRONG: Final = 8


class _Part:
    """One blob of which the broadcast is read."""

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.going = False
        self.announced: tuple[int, float] | None = None
        self.alarm: asyncio.TimerHandle | None = None

    def silence(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
        self.alarm = self.announced = None


class Invited(Exception):
    """The server asks us to take a blob from its broadcast; with how many blocks may be asked for ahead."""


async def _nowhere(_: Digest) -> None:
    raise LinkLost("this device reads no shared topics", element="broadcast")


async def _unheard(_: bytes) -> None:
    pass


class Broadcasts:
    """One for all pulls of a device. ``taking`` is the device's setting; ``always`` asks nothing of the link.

    Without a way to subscribe it takes part in none.
    """

    def __init__(
        self, subscribe: Subscribe = _nowhere, unsubscribe: Subscribe = _nowhere, *, taking: Taking = "never"
    ) -> None:
        self._subscribe, self._unsubscribe = subscribe, unsubscribe
        self._taking = taking
        self._window = Window(least_s=1.0)
        self._parts: dict[Digest, _Part] = {}
        # Times in a row that a broadcast brought nothing, and wrong blocks in one pull.
        self._silences: dict[Digest, int] = {}
        self._wrong: dict[Digest, int] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._send: Callable[[bytes], Awaitable[None]] = _unheard

    def belong_to(self, window: Window, send: Callable[[bytes], Awaitable[None]]) -> None:
        """This is the window that knows the link, and how requests are sent."""
        self._window, self._send = window, send

    def ahead(self, blob: Digest) -> int:
        """How many blocks may be asked for before they come; 0 where the device takes no part."""
        part = self._parts.get(blob)
        return part.ahead if part else 0

    @contextlib.asynccontextmanager
    async def flight(
        self, blob: Digest, blocks: int, *, urgent: bool = False, shared: bool = True
    ) -> AsyncIterator[Flight]:
        """Room for a request; one that waits for a broadcast takes none, for that has its own pace.

        Raises:
            Invited: the server asked to take part, and this device does now.
            TimeoutError: what was asked for did not come.
        """
        apart = shared and blob in self._parts and self._window.measured
        async with self._window.flight(blocks, urgent=urgent, apart=apart) as flight:
            flight.blob = blob if shared else None
            try:
                yield flight
            except Invited as invited:
                if blob not in self._parts:
                    await self._subscribe(blob)
                    self._parts[blob] = _Part(*invited.args)
                raise
            except TimeoutError:
                if flight.shared:
                    self._failed(blob)
                raise

    def ask(self, flight: Flight, digest: Digest, wanted: list[int], last: int) -> bytes:
        """The request of this flight for these blocks; ``last`` is the highest of all that are missing."""
        mask = sum(1 << (number - wanted[0]) for number in wanted)
        way = self._way(flight, wanted)
        get = BlobGet(request=flight.request, digest=digest, first=wanted[0], mask=mask, shared=way)
        if way == JOINED:
            get = msgspec.structs.replace(get, last=last, still=self._window.others(flight))
        return encode(get)

    def _way(self, flight: Flight, wanted: list[int]) -> int:
        """What the request says of shared topics: ``ALONE``, ``COULD`` or ``JOINED``."""
        if flight.blob is None:
            return ALONE
        if part := self._parts.get(flight.blob):
            flight.shared, flight.waits_for = True, set(wanted)
            flight.least_s = GOING_S if part.going else GATHERING_S
            return JOINED
        troubled = self._silences.get(flight.blob, 0) >= _SILENCES or self._wrong.get(flight.blob, 0) >= _WRONG
        return ALONE if troubled or not self._quick else COULD

    def leave(self, blob: Digest) -> None:
        """Read it no more; nobody waits until the broker has heard."""
        if part := self._parts.pop(blob, None):
            part.silence()
            self._quietly(self._gone(blob, subscribed=True))

    def right(self, blob: Digest) -> None:
        """The broadcast brought a block that was wanted."""
        self._silences.pop(blob, None)

    def wrong(self, blob: Digest) -> None:
        """It brought a block that is not the signed one; from a broker that does so more often, none is taken."""
        self._wrong[blob] = self._wrong.get(blob, 0) + 1
        if self._wrong[blob] == _WRONG:
            _log.warning("%s: what is broadcast is not what was signed, and is pulled instead", blob)
            self.leave(blob)

    def _failed(self, blob: Digest) -> None:
        """It brought nothing in time."""
        self._silences[blob] = self._silences.get(blob, 0) + 1
        if self._silences[blob] >= _SILENCES:
            self.leave(blob)

    def ended(self, blob: Digest) -> None:
        """The pull of it has ended."""
        self.leave(blob)
        self._silences.pop(blob, None)
        self._wrong.pop(blob, None)

    def forget(self) -> None:
        """There is a new session, which is subscribed to nothing."""
        for blob, part in self._parts.items():
            part.silence()
            self._quietly(self._gone(blob, subscribed=False))
        self._parts.clear()

    def block(self, blob: Digest, payload: bytes) -> Shared | None:
        """A message of a shared topic; None where it brings no block, or one of a blob that is not pulled here."""
        try:
            shared = decode_shared(payload)
        except Invalid:
            return None
        part = self._parts.get(blob)
        if not shared.data:
            if part is not None:
                self._announced(blob, part, shared.number)
            return None
        if part is not None:
            part.going = True
            self._came(part, shared)
        return shared

    def _announced(self, blob: Digest, part: _Part, number: int) -> None:
        if self._taking != "auto" or part.announced is not None:
            return
        loop = asyncio.get_running_loop()
        part.announced = number, loop.time()
        part.alarm = loop.call_later(SLOW_S, self._too_slow, blob)

    def _came(self, part: _Part, shared: Shared) -> None:
        if part.announced is None or part.announced[0] != shared.number:
            return
        took = asyncio.get_running_loop().time() - part.announced[1]
        part.silence()
        if len(shared.data) > BLOCK // 2:
            self._window.took(took)
            if not self._quick:
                self._leave_all()

    def _too_slow(self, blob: Digest) -> None:
        if (part := self._parts.get(blob)) is not None and part.announced is not None:
            self._window.took(SLOW_S)
            self._leave_all()

    def _leave_all(self) -> None:
        _log.info("this link is too slow for broadcasts: what is needed is pulled")
        for blob in list(self._parts):
            self.leave(blob)

    @property
    def _quick(self) -> bool:
        if self._taking != "auto":
            return self._taking == "always"
        return not self._window.measured or self._window.blocks >= QUICK

    async def _gone(self, blob: Digest, *, subscribed: bool) -> None:
        """Unsubscribe, and say so: whoever is silent without a word counts as dead, and its session is ended."""
        if subscribed:
            await self._unsubscribe(blob)
        await self._send(encode(BlobGet(request=1, digest=blob, shared=LEFT)))

    def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            with contextlib.suppress(LinkLost):
                await work

        task = asyncio.create_task(run(), name="leave-broadcast")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
