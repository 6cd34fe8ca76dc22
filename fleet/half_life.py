"""When offline metadata is to be signed again: an event once at half of its life, and words for whoever looks.

The server signs its own metadata each day. Root, targets and the teams' expire unless a person comes, and then devices
accept nothing new; so the alarm is early.
"""

import datetime as dt
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, select, update
from tuf.api.metadata import Metadata, Root, Targets

from fleet import events
from fleet.tables import tuf_metadata
from modules.trust import roles

LOOK_EVERY: Final = dt.timedelta(hours=1)


class HalfLife:
    """Looks at the offline roles once an hour."""

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._looked: dt.datetime | None = None

    def again(self) -> None:
        """Something was signed: look at the next occasion."""
        self._looked = None

    def waits(self, now: dt.datetime) -> bool:
        """Whether it was looked at within the last hour."""
        return self._looked is not None and LOOK_EVERY > now - self._looked >= dt.timedelta(0)

    def look(self, connection: Connection, present: Mapping[str, bytes], now: dt.datetime) -> None:
        """Find what is past half of its life; what was not told before becomes an event.

        ``present`` is the newest metadata by role.
        """
        found = []
        for role in sorted(present):
            if role in {roles.SNAPSHOT, roles.TIMESTAMP}:
                continue
            signed: Root | Targets = Metadata.from_bytes(present[role]).signed
            if signed.expires - now > roles.life(role) / 2:
                continue
            found.append(_words(role, signed.expires, now))
            row = (tuf_metadata.c.role == role) & (tuf_metadata.c.version == signed.version)
            if not connection.execute(select(tuf_metadata.c.told).where(row)).scalar_one():
                events.record(connection, now.timestamp(), "metadata-half-life", found[-1])
                connection.execute(update(tuf_metadata).where(row).values(told=True))
        self.notes, self._looked = tuple(found), now


def _words(role: str, expires: dt.datetime, now: dt.datetime) -> str:
    days = (expires - now).days
    said = f"expires on {expires:%Y-%m-%d}, in {days} days" if expires > now else f"expired on {expires:%Y-%m-%d}"
    return f"{role} {said}; sign it again: edgefleet keys renew {role}"
