"""An answer of an entry script that is made while it is sent: each part when it is asked for."""

import asyncio
from typing import Protocol, Self

from modules.scoring.runtime import RunFailed


class Source(Protocol):
    """The worker that makes the parts."""

    def more(self) -> None:
        """Make the next part."""

    def drop(self) -> None:
        """Make no more of them."""


class Stream:
    """What worker and reader have in common."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open = True
        # Not to be read from the future of the part: its reader may be gone while the part is still on its way.
        self._owed = False
        self._part: asyncio.Future[bytes | None] | None = None

    @property
    def awaited(self) -> bool:
        """The worker owes the next part, or the end."""
        return not self._open or self._owed

    async def part(self) -> bytes | None:
        """The next part; None after the last.

        Raises:
            RunFailed: the script, or its time, ended it early.
        """
        if not self._open:
            return None
        self._part = asyncio.get_running_loop().create_future()
        self._owed = True
        self._source.more()
        return await self._part

    def give_up(self) -> None:
        """Nobody wants the rest."""
        if self._open:
            self._open = False
            # A part that is on its way is thrown away when it comes, and the rest ended then.
            if not self._owed:
                self._source.drop()

    def take(self, part: bytes | None, message: str | None) -> None:
        """The worker's next part; None is the end, an early one with the reason in ``message``."""
        self._owed = False
        if message is not None:
            self.fail(RunFailed(message))
        elif part is not None and not self._open:
            self._source.drop()
        else:
            self._open = self._open and part is not None
            if self._part is not None and not self._part.done():
                self._part.set_result(part)

    def fail(self, error: Exception) -> None:
        self._open = self._owed = False
        if self._part is not None and not self._part.done():
            self._part.set_exception(error)


class Parts:
    """The reader's end: an asynchronous iterator. Dropping it, even before its start, frees the worker."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        part = await self._stream.part()
        if part is None:
            raise StopAsyncIteration
        return part

    async def aclose(self) -> None:
        self._stream.give_up()

    def __del__(self) -> None:
        self._stream.give_up()
