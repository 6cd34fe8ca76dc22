"""The duty that has the broker forget devices that were removed, revoked or have other hardware, and served claims.

Of the server that leads. Their sessions end, and what the broker retained of them goes.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sqlalchemy import case, select, update

from fleet import joins
from fleet.broker import BrokerLink
from fleet.db import Database
from fleet.mishaps import Mishaps
from fleet.rights import Rights
from fleet.tables import devices
from modules.errors import LinkLost
from modules.names import DeviceId

log = logging.getLogger(__name__)

# After it was told of a revoked certificate, the broker has read its list again.
REREAD_S: Final = 1.0
# Other servers on the same database take devices out, too, and wake nobody here.
LOOK_FOR_OTHERS_S: Final = 1.0


class Partings:
    """``look`` is called in the event loop's thread; ``lasting`` does work in the database.

    ``orders`` is called where the order of a device that has come back has to go out again.
    """

    def __init__(
        self,
        database: Database,
        link: BrokerLink,
        rights: Rights,
        mishaps: Mishaps,
        lasting: Callable[..., Awaitable[Any]],
        *,
        orders: Callable[[], None],
    ) -> None:
        self._database, self._link, self._rights, self._mishaps = database, link, rights, mishaps
        self._lasting, self._orders = lasting, orders
        self._some = asyncio.Event()
        #: devices that are removed or revoked: they are answered nothing
        self.out: frozenset[str] = frozenset()

    def look(self) -> None:
        """Devices joined, or were removed or revoked, or the session with the broker is a new one."""
        self._some.set()

    async def run(self) -> None:
        """Part with those that wait for it, for ever."""
        while True:
            with self._mishaps.alone("parting", "removed and revoked devices"):
                await self._part()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_FOR_OTHERS_S if self._database.shared else None):
                    await self._some.wait()
            self._some.clear()

    async def _part(self) -> None:
        out, waiting, claims = await self._lasting(self._waiting)
        if out != self.out:
            self.out = out
            self._rights.forget()
        try:
            if waiting or claims:
                await asyncio.sleep(REREAD_S)
            for device in waiting:
                await self._link.part(device)
                await self._lasting(self._parted, device)
                self._orders()
            for claim in claims:
                await self._link.part_claim(claim)
                await self._lasting(self._claim_cut, claim)
        except LinkLost as error:
            log.debug("removed devices stay with the broker until it is back: %s", error)

    def _waiting(self) -> tuple[frozenset[str], list[DeviceId], list[str]]:
        out = devices.c.removed.is_not(None) | devices.c.revoked.is_not(None)
        columns = (devices.c.id, devices.c.parting, out.label("out"))
        with self._database.read() as connection:
            # Those that part and are not out have come back with another key.
            rows = connection.execute(select(*columns).where(out | devices.c.parting)).all()
            claims = joins.ended_claims(connection)
        gone = frozenset(row.id for row in rows if row.out)
        return gone, [DeviceId(row.id) for row in rows if row.parting], claims

    def _parted(self, device: DeviceId) -> None:
        # The order of a device that has come back was forgotten with the rest: it is published again.
        again = case((devices.c.removed.is_(None) & devices.c.revoked.is_(None), 0), else_=devices.c.order_published)
        with self._database.write() as connection:
            parted = update(devices).where(devices.c.id == device)
            connection.execute(parted.values(parting=False, order_published=again))

    def _claim_cut(self, claim: str) -> None:
        with self._database.write() as connection:
            joins.claim_cut(connection, claim)
