"""How many requests a slot works on at once, and how many may wait for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from agent.gateway.refusals import refusal
from modules.protocol.routing import Bounds


class Places:
    """The places of one slot.

    Args:
        bounds: how many requests are worked on and may wait, and for how long.
        of: whose places they are, for who is turned away.
        first: so many there are at first, where they are to :meth:`grow`.
    """

    def __init__(self, bounds: Bounds, *, of: str = "of this slot", first: int | None = None) -> None:
        self.bounds, self._of = bounds, of
        self._open = min(first or bounds.concurrent, bounds.concurrent)
        self._free = asyncio.Semaphore(self._open)
        self._room = bounds.waiting

    def grow(self) -> None:
        """One more from here on, up to the bound."""
        if self._open < self.bounds.concurrent:
            self._open += 1
            self._free.release()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self.bounds.waiting - self._room

    @property
    def are_free(self) -> bool:
        """Whether one can be had without a wait."""
        return not self._free.locked()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one place while the body of the ``async with`` runs.

        Raises:
            web.HTTPError: 429 with Retry-After, where the queue is full or the wait was too long.
        """
        if self._free.locked():
            await self._queue()
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _queue(self) -> None:
        if self._room == 0:
            raise self._turned_away("no more may wait")
        self._room -= 1
        try:
            async with asyncio.timeout(self.bounds.wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise self._turned_away(f"none got free within {self.bounds.wait_s:g} s") from None
        finally:
            self._room += 1

    def _turned_away(self, why: str) -> web.HTTPError:
        return refusal(
            web.HTTPTooManyRequests,
            f"all {self._open} places {self._of} are taken and {why}; post less often",
            retry_after=1,
        )
