"""The duty that publishes commands: each until it has its last answer or holds no more. Of the server that leads."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from sqlalchemy import Row

from fleet.clock import Clock
from fleet.commands import due
from fleet.db import Database
from fleet.mishaps import Mishaps
from modules.errors import LinkLost
from modules.protocol.topics import Topics

log = logging.getLogger(__name__)

AT_ONCE: Final = 200
# Time alone makes a command due, and other servers on the same database wake nobody here.
LOOK_EVERY_S: Final = 1.0


class Link(Protocol):
    """What this needs of fleet/broker.py."""

    async def publish_all(self, messages: list[tuple[str, bytes]]) -> None: ...


class Sending:
    """``look`` and ``begin_anew`` are called in the event loop's thread; ``lasting`` does work in the database."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        link: Link,
        topics: Topics,
        mishaps: Mishaps,
        lasting: Callable[..., Awaitable[Any]],
    ) -> None:
        self._database, self._clock = database, clock
        self._link, self._topics, self._mishaps = link, topics, mishaps
        self._lasting = lasting
        self._some = asyncio.Event()
        self._anew = False

    def look(self) -> None:
        """A command was given, or a device came back."""
        self._some.set()

    def begin_anew(self) -> None:
        """The session with the broker is a new one."""
        self._anew = True
        self._some.set()

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            self._some.clear()
            with self._mishaps.alone("publication", "commands"):
                try:
                    if self._anew:
                        self._anew = False
                        await self._lasting(self._all_again)
                    while await self._send_some():
                        pass
                except LinkLost as error:
                    log.debug("commands wait for the broker: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._some.wait()

    async def _send_some(self) -> bool:
        """Look at the next commands; True if there may be more.

        Raises:
            LinkLost: none or not all of them were taken.
        """
        rows: list[Row[Any]] = await self._lasting(self._due)
        if not rows:
            return False
        now = self._clock()
        holding = due.to_send(rows, now)
        try:
            await self._link.publish_all([self._message(row) for row in holding])
        except LinkLost:
            await self._lasting(self._looked_at, now, [row for row in rows if now >= row.expires])
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one of them, the others go out
            log.debug("commands are published one by one: %r", error)
            await self._publish_each(holding)
        await self._lasting(self._looked_at, now, rows)
        return len(rows) == AT_ONCE

    async def _publish_each(self, rows: Sequence[Row[Any]]) -> None:
        for row in rows:
            try:
                await self._link.publish_all([self._message(row)])
            except LinkLost:
                raise
            except Exception as error:  # noqa: BLE001 - as above; it counts as sent, and holds up no other
                self._mishaps.note("command", f"{row.name} {row.id} of {row.device}", error)

    def _message(self, row: Row[Any]) -> tuple[str, bytes]:
        return self._topics.command(row.device, row.name, row.id), row.envelope

    def _due(self) -> list[Row[Any]]:
        with self._database.read() as connection:
            return due.due(connection, self._clock(), limit=AT_ONCE)

    def _looked_at(self, now: float, rows: Sequence[Row[Any]]) -> None:
        if rows:
            with self._database.write() as connection:
                due.looked_at(connection, now, rows)

    def _all_again(self) -> None:
        with self._database.write() as connection:
            due.all_again(connection, self._clock())
