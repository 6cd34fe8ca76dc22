"""Orders that are published again, since their devices say that they have an older one.

A broker may keep an order of before, or a forged one, in the newest one's place: the device refuses or knows it, and
nobody would say so before the next order or session. What it reports is signed, and names the order that it has.
"""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from fleet.tables import devices
from modules.digests import sha256
from modules.names import DeviceId
from modules.protocol.report import Report

# Of one device; a report may be on its way while the next order is, and one that cannot take it says so for ever.
EVERY_S: Final = 60.0
_REMEMBERED: Final = 10_000
KIND: Final = "order-sent-again"


class SentAgain:
    """Remembers when each device's order was, so long as it matters."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def look(
        self, connection: Connection, now: float, reports: Sequence[tuple[Row[Any], Report]]
    ) -> list[tuple[str, str, DeviceId]]:
        """Have the orders of those published again who are behind; what is to be told, as events.

        A device that refused the newest order has it, and is sent it no more: its report says why it was refused.
        """
        behind = {row.id: (row, said) for row, said in reports if said.order < row.order_published}
        due = [one for one in behind if not 0 <= now - self._at.get(one, -EVERY_S) < EVERY_S]
        if not due:
            return []
        if len(self._at) >= _REMEMBERED:
            self._at = {one: at for one, at in self._at.items() if now - at < EVERY_S}
        told = []
        live = devices.c.id.in_(due) & devices.c.order_envelope.is_not(None)
        for found in connection.execute(select(devices.c.id, devices.c.order_envelope).where(live)).all():
            row, said = behind[found.id]
            if refused_as(found.order_envelope) in {one.what for one in said.refusals}:
                continue
            self._at[found.id] = now
            connection.execute(update(devices).where(devices.c.id == found.id).values(order_published=0))
            text = f"it has order {said.order}, and {row.order_published} was sent: that one is published again"
            told.append((KIND, text, DeviceId(found.id)))
        return told


def refused_as(envelope: bytes) -> str:
    """How a device names an order that it refused (agent/inbox.py)."""
    return f"order {sha256(envelope)[7:19]}"
