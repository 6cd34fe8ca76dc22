"""A request's body: kept while it is small, so that it can be sent again; passed on as it comes where it is not."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Self

from aiohttp import hdrs, web

from agent.gateway.headers import plain_length
from agent.gateway.refusals import refusal, too_large
from agent.gateway.settings import Settings
from modules.bodies import Bearable, bearable

# aiohttp warns where a larger body is handed over in one piece, because writing it would hold up the event loop.
_ONE_PIECE: Final = 1 << 20
_KIND: Final = ("content-type", "inference-header-content-length")


class Budget:
    """How many bytes of bodies may still be kept by all requests together."""

    def __init__(self, size: int) -> None:
        self.free = size


class Body:
    """One request's body; a context manager, because what it keeps counts against the budget of all.

    Raises:
        web.HTTPError: 400, its length is none that can be read.

    Attributes:
        whole: all of it is here.
        failure: what to tell the client where reading went wrong while an upstream was already being sent the body.
    """

    def __init__(self, request: web.BaseRequest, settings: Settings, budget: Budget) -> None:
        if not plain_length(request.headers):
            raise refusal(web.HTTPBadRequest, "the request's Content-Length is no length")
        self._content = request.content
        self._request = request
        self._settings = settings
        self._budget = budget
        self._kept: list[bytes] = []
        self._size = 0
        self._charged = 0
        self._flowing = False
        self._bearable: Bearable | None = None
        # What says how it will be read; a second content type has been refused before.
        self._kind = [(name.encode(), request.headers.get(name, "").encode(errors="replace")) for name in _KIND]
        self.whole = not request.body_exists
        self.failure: web.HTTPError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.free += self._charged
        self._kept.clear()

    @property
    def replayable(self) -> bool:
        """Whether it can be sent (again): it is kept, or nothing of it has flowed away."""
        return self.whole or not self._flowing

    def check(self, memory_mb: int) -> None:
        """Go by what a module with so many MiB bears, now and for what still comes; 0: by nothing but the settings.

        Raises:
            web.HTTPError: 413, it is too large for that one.
        """
        self._bearable = bearable(memory_mb << 20) if memory_mb else None
        self._check(max(self._size, self.length or 0))

    def _check(self, length: int) -> None:
        if length > self._settings.max_body:
            raise too_large(length, self._settings.max_body)
        if self._bearable is not None and (why := self._bearable.excess(length, self._kind)):
            raise too_large(length, self._bearable.body, f"{why} (this module's memory bears no more)")

    async def receive(self) -> None:
        """Read until the end of the body or the limit of what may be kept.

        Raises:
            web.HTTPError: 413 for too large a body, 408 for a client that stopped sending.
        """
        self._check(self._request.content_length or 0)
        if self.whole:
            return
        if self._request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0  # else aiohttp takes the answer for begun
        while self._size <= self._settings.replay_body and self._budget.free > 0:
            chunk = await self._next()
            if not chunk:
                self.whole = True
                return
            self._kept.append(chunk)
            self._charged += len(chunk)
            self._budget.free -= len(chunk)

    @property
    def length(self) -> int | None:
        """Bytes in all, where that is known before the end."""
        return self._size if self.whole else self._request.content_length

    def data(self) -> bytes | AsyncIterator[bytes] | None:
        """What to hand to the HTTP client for one attempt."""
        if self.whole:
            if not self._kept:
                return None
            if self._size <= _ONE_PIECE:
                return b"".join(self._kept)
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        if not self.whole:
            self._flowing = True
        for chunk in self._kept:
            yield chunk
        if self.whole:
            return
        try:
            while chunk := await self._next():
                yield chunk
        except web.HTTPError as failure:
            # The HTTP client would report this as a fault of the upstream.
            self.failure = failure
            raise

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._settings.body_s):
                chunk = await self._content.readany()
        except TimeoutError:
            raise refusal(
                web.HTTPRequestTimeout, f"nothing more of the request body came for {self._settings.body_s:g} s"
            ) from None
        self._size += len(chunk)
        self._check(self._size)
        return chunk
