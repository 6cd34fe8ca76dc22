"""Which blobs a device may have: what its orders name, and who gives orders. Anything else is not there, for it.

A device may pull the manifest, the files and the images, with their indexes, of a module that

- its newest order names;
- stood in one of its slots before that, if the slot may go back to it;
- an order named that was replaced a moment ago: it may be on its way still;
- it says that it works on or serves, if it was ever ordered to: an engine may have lost its image.

Besides, every device may have the lists of director keys that the trust metadata names. What is known of a device is
kept until a newer order of it is published, so that a block costs no question to the database. Whoever is refused is
answered as for a blob that does not exist, and nobody looks whether it does.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from sqlalchemy import Connection, func, select
from tuf.api.metadata import Metadata, Targets

from fleet import events, revisions
from fleet.blobs import Blobs
from fleet.clock import Clock
from fleet.db import Database
from fleet.devices import LIVE
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.refusals import Missing
from fleet.registry import named_digests
from fleet.tables import devices, slot_revisions, slots, tuf_metadata
from modules import manifest as manifests
from modules.digests import measure_bytes
from modules.names import DeviceId, Digest, DigestField
from modules.trust import roles

# Devices of one look at the database, and how long it may take.
TOGETHER: Final = 500
LOOK_UP_S: Final = 5.0
# What is known of a device is read again after this time, for it depends on its reports, too; sooner before a no.
KEPT_S: Final = 600.0
SURE_S: Final = 5.0
EVENT_EVERY_S: Final = 3600.0
_DEVICES: Final = 50_000
# Of the manifests that were read last: some 150 bytes each.
_DIGESTS: Final = 400_000


class Checked(Protocol):
    """What those who answer devices ask; see :class:`Rights`."""

    async def may(self, device: DeviceId, blob: Digest, waiting: Iterable[DeviceId] = ()) -> bool: ...

    async def check(self, device: DeviceId, blob: Digest, waiting: Iterable[DeviceId] = ()) -> None: ...


class _Named(msgspec.Struct):
    """All that is needed of a slot's document."""

    digest: DigestField


class _Serving(msgspec.Struct):
    digest: DigestField


class _Slot(msgspec.Struct):
    digest: DigestField
    serving: _Serving | None = None


class _Said(msgspec.Struct):
    """As much of a report as is needed here."""

    slots: tuple[_Slot, ...] = ()


class _Held(NamedTuple):
    """What one device may have, as the order with this number says, and from when on that may be less."""

    counter: int
    read: float
    ends: float
    modules: tuple[frozenset[Digest], ...]

    def names(self, blob: Digest) -> bool:
        return any(blob in module for module in self.modules)


class Rights:
    """Used from any thread; ``grace_s`` is for how long a replaced order still counts."""

    def __init__(
        self, database: Database, blobs: Blobs, clock: Clock, mishaps: Mishaps, meters: Meters, *, grace_s: float
    ) -> None:
        self._database, self._blobs, self._clock = database, blobs, clock
        self._mishaps, self._meters, self._grace_s = mishaps, meters, grace_s
        self._lock = threading.Lock()
        self._one_look = asyncio.Lock()
        self._held: OrderedDict[DeviceId, _Held] = OrderedDict()
        self._newest: dict[DeviceId, int] = {}
        self._names: OrderedDict[Digest, frozenset[Digest]] = OrderedDict()
        self._digests = 0
        self._trusted: tuple[int, frozenset[Digest]] = (0, frozenset())
        self._told: OrderedDict[DeviceId, float] = OrderedDict()
        self._untold: list[tuple[DeviceId, Digest]] = []

    def published(self, device: DeviceId, counter: int) -> None:
        """A device may know of its order with this number from now on: what an older one said is not enough."""
        self._newest[device] = max(self._newest.get(device, 0), counter)

    def forget(self) -> None:
        """What is known of devices may be old: another server led, or devices went or came back."""
        with self._lock:
            self._held.clear()

    async def may(self, device: DeviceId, blob: Digest, waiting: Iterable[DeviceId] = ()) -> bool:
        """Whether it may have the blob. Where the database has to be asked, so for those that are ``waiting``."""
        held = self._known(device)
        if held is None:
            await self._know([device, *waiting])
            held = self._held.get(device)
        if (held is not None and held.names(blob)) or blob in self._trusted[1]:
            return True
        return await asyncio.to_thread(self._surely, device, blob)

    async def check(self, device: DeviceId, blob: Digest, waiting: Iterable[DeviceId] = ()) -> None:
        """The same, for a device that asks at the broker.

        Raises:
            Missing: it may not, and is told what it would be told if there were none.
        """
        if not await self.may(device, blob, waiting):
            self._meters.withheld("asked")
            raise self._withhold(device, blob)

    def check_now(self, device: DeviceId, blob: Digest, counter: int) -> None:
        """The same over HTTPS; blocking. ``counter`` is the number of its newest order.

        Raises:
            Missing: as :meth:`check`.
        """
        self.published(device, counter)
        if (held := self._known(device)) is None:
            self._look([device])
            held = self._held.get(device)
        if held is not None and held.names(blob):
            return
        if blob not in self._trusted[1] and not self._surely(device, blob):
            self._meters.withheld("https")
            raise self._withhold(device, blob)

    def record(self) -> None:
        """Write an event for each device that was refused something, at most one an hour. Blocking."""
        untold = list(self._untold)
        if untold:
            with self._database.write() as connection:
                for device, blob in untold:
                    message = f"not-ordered: it asked for {blob}, which its orders do not name"
                    events.record(connection, self._clock(), "blob-withheld", message, device=device)
            with self._lock:
                del self._untold[: len(untold)]

    def _withhold(self, device: DeviceId, blob: Digest) -> Missing:
        now = self._clock()
        with self._lock:
            if abs(now - self._told.get(device, float("-inf"))) >= EVENT_EVERY_S:
                self._told[device] = now
                self._untold.append((device, blob))
            if len(self._told) > _DEVICES:
                self._told.popitem(last=False)
        return Missing("there is no such blob", element=blob)

    def _known(self, device: DeviceId) -> _Held | None:
        """What is known of it, if that still holds."""
        held = self._held.get(device)
        now = self._clock()
        if held is None or held.counter < self._newest.get(device, 0):
            return None
        return held if held.read <= now < min(held.ends, held.read + KEPT_S) else None

    async def _know(self, wanted: Sequence[DeviceId]) -> None:
        async with self._one_look, asyncio.timeout(LOOK_UP_S):
            unknown = [one for one in dict.fromkeys(wanted) if self._known(one) is None]
            if unknown:
                await asyncio.to_thread(self._look, unknown[:TOGETHER])

    def _surely(self, device: DeviceId, blob: Digest) -> bool:
        """Before a no: what may have changed without an order of the device."""
        held = self._held.get(device)
        if held is None or self._clock() - held.read > SURE_S:
            self._look([device])
            held = self._held.get(device)
        return (held is not None and held.names(blob)) or blob in self._read_trusted()

    def _look(self, chosen: Sequence[DeviceId]) -> None:
        now = self._clock()
        with self._database.read() as connection:
            # Before what they say: of an order that comes between, the number is the older one.
            live = select(devices.c.id, devices.c.order_counter, devices.c.report).where(
                devices.c.id.in_(chosen), LIVE, devices.c.revoked.is_(None)
            )
            rows = {DeviceId(row.id): row for row in connection.execute(live)}
            modules: dict[DeviceId, set[Digest]] = {device: set() for device in rows}
            ends: dict[DeviceId, float] = {}
            for row in connection.execute(_decided(list(rows))):
                modules[row.device].add(_digest(row.document))
            for row in connection.execute(_replaced(list(rows), now - self._grace_s)):
                modules[row.device].add(_digest(row.document))
                ends[row.device] = min(ends.get(row.device, float("inf")), row.at + self._grace_s)
            said = {device: _said(row.report) - modules[device] for device, row in rows.items() if row.report}
            for device, digest in _ever(connection, [device for device, more in said.items() if more]):
                if digest in said[device]:
                    modules[device].add(digest)
        for device in chosen:
            names = tuple(self._named(module) for module in modules.get(device, ()))
            counter = rows[device].order_counter if device in rows else self._newest.get(device, 0)
            self._keep(device, _Held(counter, now, ends.get(device, float("inf")), names))

    def _keep(self, device: DeviceId, held: _Held) -> None:
        with self._lock:
            known = self._held.get(device)
            if known is None or known.counter <= held.counter:
                self._held[device] = held
                self._held.move_to_end(device)
            if len(self._held) > _DEVICES:
                self._held.popitem(last=False)

    def _named(self, module: Digest) -> frozenset[Digest]:
        """Every blob of a module; its manifest is read once, for it never changes."""
        if (known := self._names.get(module)) is not None:
            return known
        names: frozenset[Digest] = frozenset()
        with self._mishaps.alone("rights", module):
            data = self._blobs.find(module)
            if data is not None:
                names = frozenset({module, measure_bytes(data).blocks, *named_digests(manifests.decode(data))})
        if not names:
            return names  # it was removed, or cannot be read now
        with self._lock:
            if module not in self._names:
                self._names[module] = names
                self._digests += len(names)
            while self._digests > _DIGESTS and len(self._names) > 1:
                self._digests -= len(self._names.popitem(last=False)[1])
        return names

    def _read_trusted(self) -> frozenset[Digest]:
        """The lists of director keys that the kept versions of targets metadata name."""
        mine = tuf_metadata.c.role == roles.TARGETS
        with self._database.read() as connection:
            newest = connection.scalar(select(func.max(tuf_metadata.c.version)).where(mine)) or 0
            if newest != self._trusted[0]:
                every = connection.scalars(select(tuf_metadata.c.data).where(mine)).all()
                self._trusted = (newest, frozenset(one for data in every for one in _directors(data)))
        return self._trusted[1]


def _decided(chosen: Sequence[DeviceId]) -> Any:
    """What the slots of these devices are to have, and what each may go back to."""
    before = revisions.before(slots.c.device, slots.c.slot, slots.c.revision)
    earlier = (slot_revisions.c.device == slots.c.device) & (slot_revisions.c.slot == slots.c.slot)
    back = select(slots.c.device, slot_revisions.c.document).join_from(
        slots, slot_revisions, earlier & (slot_revisions.c.revision == before)
    )
    mine = slots.c.device.in_(chosen)
    now = select(slots.c.device, slots.c.document).where(mine)
    return now.union_all(back.where(mine, slot_revisions.c.document.is_not(None)))


def _replaced(chosen: Sequence[DeviceId], since: float) -> Any:
    """What these devices were to have until something else was decided after ``since``; ``at`` is when it was."""
    older, newer = slot_revisions.alias(), slot_revisions.alias()
    next_one = (
        (newer.c.device == older.c.device) & (newer.c.slot == older.c.slot) & (newer.c.revision == older.c.revision + 1)
    )
    return (
        select(older.c.device, older.c.document, newer.c.at)
        .join(newer, next_one)
        .where(newer.c.device.in_(chosen), newer.c.at > since, older.c.document.is_not(None))
    )


def _ever(connection: Connection, chosen: Sequence[DeviceId]) -> Iterable[tuple[DeviceId, Digest]]:
    """Every module that these few devices were ever to have."""
    if chosen:
        mine = slot_revisions.c.device.in_(chosen) & slot_revisions.c.document.is_not(None)
        for row in connection.execute(select(slot_revisions.c.device, slot_revisions.c.document).where(mine)):
            yield row.device, _digest(row.document)


def _said(report: bytes) -> set[Digest]:
    """What a device says that it works on and serves."""
    said = msgspec.json.decode(report, type=_Said).slots
    return {one.digest for one in said} | {one.serving.digest for one in said if one.serving is not None}


def _digest(document: bytes) -> Digest:
    return msgspec.json.decode(document, type=_Named).digest


def _directors(targets: bytes) -> Iterable[Digest]:
    entry = Metadata[Targets].from_bytes(targets).signed.targets.get(roles.DIRECTOR_PATH)
    if entry is not None:
        yield Digest("sha256:" + entry.hashes["sha256"])
