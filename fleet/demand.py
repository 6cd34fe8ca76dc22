"""Which blobs may be broadcast, and how many devices of the open waves are known to want one.

A broadcast can be read by every device of the fleet, so a blob that any confidential module names never goes out that
way, not for another module either: neither its files and image, nor their indexes, nor its manifest.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from sqlalchemy import func, select

from fleet.blobs import Blobs
from fleet.db import Database
from fleet.refusals import Missing
from fleet.registry import named_digests
from fleet.rollouts.phases import ORDERED, Standing
from fleet.tables import members, modules
from modules import manifest as manifests
from modules.names import Digest
from modules.protocol.phases import Phase

# What a device says before it has what it needs.
_EARLY: Final = (ORDERED, Phase.ACCEPTED, Phase.FITTED, Phase.FETCHING)
_MOST_KEPT: Final = 64


class Demand(NamedTuple):
    """A blob's length in bytes, and how many devices are about to pull it; None: it may not be broadcast."""

    length: int
    devices: int


class Demands:
    """Reads manifests once: they never change."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database, self._blobs = database, blobs
        self._read: set[Digest] = set()
        self._confidential: set[Digest] = set()
        self._names: OrderedDict[Digest, frozenset[Digest]] = OrderedDict()

    def of(self, blob: Digest) -> Demand | None:
        """Blocking. None where the blob is not to be broadcast, or is not here."""
        with self._database.read() as connection:
            there = {Digest(one) for one in connection.scalars(select(modules.c.digest)) if one is not None}
            waiting = connection.execute(
                select(members.c.digest, func.count())
                .where(
                    members.c.standing == Standing.WORKING,
                    members.c.current.is_(True),
                    members.c.counter.is_not(None),
                    members.c.phase.in_(_EARLY),
                )
                .group_by(members.c.digest)
            ).all()
        for module in there - self._read:
            self._look(module)
        length = self._blobs.length(blob)
        if blob in self._confidential or length is None:
            return None
        return Demand(length, sum(count for module, count in waiting if blob in self._named(Digest(module))))

    def _look(self, module: Digest) -> None:
        data = self._blobs.find(module)  # a removed one may be gone, and its blobs with it
        if data is not None and (manifest := manifests.decode(data)).is_confidential:
            self._confidential |= {module, *named_digests(manifest)}
        self._read.add(module)

    def _named(self, module: Digest) -> frozenset[Digest]:
        if module not in self._names:
            try:
                names = frozenset(named_digests(manifests.decode(self._blobs.read(module))))
            except Missing:
                names = frozenset()
            self._names[module] = names
            if len(self._names) > _MOST_KEPT:
                self._names.popitem(last=False)
        return self._names[module]
