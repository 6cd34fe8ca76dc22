"""Acknowledgements on their way: the newest of each device, sent apart from the taking in of what devices say.

The broker's receipt for one comes by the same socket as the next messages, which is not read while too many of them
wait. So whoever takes messages in must not wait for it: it would wait for itself.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Protocol

from fleet.ingest import Receipt
from fleet.mishaps import Mishaps
from modules import canonical
from modules.errors import LinkLost
from modules.names import DeviceId
from modules.protocol.report import Ack
from modules.protocol.topics import Topics

log = logging.getLogger(__name__)


class Link(Protocol):
    """What this needs of fleet/broker.py."""

    async def publish_all(self, messages: list[tuple[str, bytes]]) -> None: ...


class Acks:
    """At most one waits for each device, so that a slow broker fills no memory."""

    def __init__(self, link: Link, topics: Topics, mishaps: Mishaps) -> None:
        self._link, self._topics, self._mishaps = link, topics, mishaps
        self._waiting: dict[DeviceId, Receipt] = {}
        self._some = asyncio.Event()

    def add(self, receipts: Iterable[Receipt]) -> None:
        """These are committed; a newer one of a device takes the place of its older one."""
        for one in receipts:
            self._waiting[one.device] = one
            self._some.set()

    async def run(self) -> None:
        """Send them, for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            some, self._waiting = list(self._waiting.values()), {}
            with self._mishaps.alone("acknowledgement", f"{len(some)} devices"):
                try:
                    await self._link.publish_all([self._message(one) for one in some])
                except LinkLost as error:
                    # Their reports are retained: they come again with the next session, and so does this.
                    log.debug("%d acknowledgements not sent: %s", len(some), error)

    def _message(self, one: Receipt) -> tuple[str, bytes]:
        ack = Ack(report=one.report, epoch=one.epoch, twice=one.twice, telemetry=one.telemetry)
        return self._topics.ack(one.device), canonical.encode(ack)
