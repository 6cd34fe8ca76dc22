"""The table that counts now: looked at again for every request, at the price of one ``stat``."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.gateway.table import MAX_BYTES, parse
from modules.errors import Invalid
from modules.protocol.routing import Table

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]
_MISSING: Final[_Stamp] = (-1, -1, -1)


class CurrentTable:
    """The newest readable table.

    A file that is missing, torn or nonsense never takes away the last good one: it is logged once, and once more when a
    good one is there again.

    Args:
        path: the file that the agent replaces.
        on_change: called with each new table, before any request sees it.
    """

    def __init__(self, path: Path, on_change: Callable[[Table], None]) -> None:
        self._path = path
        self._on_change = on_change
        self._stamp: _Stamp | None = None
        self._table: Table | None = None
        self._outage = False
        self.refused: dict[str, str] = {}

    def get(self) -> Table | None:
        """The table now, or None where there has never been a readable one."""
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - per request; a Path method costs twice as much
        except OSError as error:
            self._bad(_MISSING, str(error))
            return self._table
        if self._stamp != _stamp_of(stat):
            self._load()
        return self._table

    def _load(self) -> None:
        try:
            with self._path.open("rb") as file:
                # The stamp is that of the bytes read, not of whatever the path meant a moment ago.
                stamp = _stamp_of(os.fstat(file.fileno()))
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            self._bad(_MISSING, str(error))
            return
        try:
            table, refused = parse(content, element=str(self._path))
        except Invalid as error:
            self._bad(stamp, str(error))
            return
        if refused != self.refused:
            for slot, reason in refused.items():
                logger.error("slot %s: its route, or its fallback, cannot be used: %s", slot, reason)
            self.refused = refused
        self._stamp = stamp
        self._on_change(table)
        self._table = table
        if self._outage:
            self._outage = False
            logger.warning("the routing table is readable again (generation %d)", table.generation)
        else:
            logger.info("routing table generation %d: %s", table.generation, ", ".join(table.slots) or "no slots")

    def _bad(self, stamp: _Stamp, reason: str) -> None:
        self._stamp = stamp
        if not self._outage:
            self._outage = True
            consequence = "the last good one stays in use" if self._table else "nothing can be served yet"
            logger.warning("no readable routing table (%s); %s", reason, consequence)


def _stamp_of(stat: os.stat_result) -> _Stamp:
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
