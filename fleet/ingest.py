"""What devices say, into rows: verified with the device's own keys, in one transaction per batch, idempotent.

Numbers only grow, so the order in which messages arrive does not matter, and a retained message that comes again
changes nothing. An acknowledgement is made from what the transaction committed, never before.

A batch is read and written by a few statements, however many messages it has (fleet/gathered.py). What one device says
twice in it goes into two such rounds, so that each message sees what the one before has changed. If anything in a batch
fails, all of it is taken message by message, each alone.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import OperationalError

from fleet import device_keys, epochs, events
from fleet.attempts import Attempts
from fleet.clock import Clock
from fleet.commands import taken
from fleet.db import Database
from fleet.device_keys import Keys
from fleet.device_states import health
from fleet.epochs import News
from fleet.gathered import TOGETHER, Gathered, pieces
from fleet.meters import Meters
from fleet.mishaps import Mishaps
from fleet.refusals import TooMany
from fleet.said import ANSWER, Document, Inbound, Said, signed
from fleet.sent_again import SentAgain
from fleet.settings import DAY_TELEMETRY
from fleet.tables import devices
from fleet.telemetry import news
from fleet.telemetry.rows import Taken
from modules import canonical
from modules.cores import granted, threads
from modules.errors import Invalid, Refused, Untrusted
from modules.names import DeviceId
from modules.protocol import report as report_wire
from modules.protocol.commands import Answer
from modules.protocol.facts import Facts
from modules.protocol.report import Report, Status
from modules.protocol.telemetry import Telemetry

log = logging.getLogger(__name__)

# Messages of one device and kind in one batch; of a flood only the newest are looked at.
OF_ONE_KIND: Final = 20
# Messages that one thread reads at a time.
TURN: Final = 50
# What a device that was just removed still says is its goodbye.
PARTING_S: Final = 60.0


# What is looked at of a device; its order and its facts are large, and seldom needed.
_SEEN: Final = (
    *(devices.c.id, devices.c.removed, devices.c.epoch, devices.c.status_epoch, devices.c.retired_epochs),
    *(devices.c.online, devices.c.boot, devices.c.facts_number, devices.c.report_number, devices.c.report),
    *(devices.c.telemetry_number, devices.c.revoked, devices.c.order_published),
)


class Receipt(NamedTuple):
    """The highest numbers of a device that are committed, in which of its epochs.

    ``twice``: what came now has the report's very number too, and other words.
    """

    device: DeviceId
    report: int
    epoch: str = ""
    twice: bool = False
    telemetry: int = 0


class Ingest:
    """Takes batches of messages; ``commit`` runs in a worker thread."""

    @staticmethod
    def kind(rest: tuple[str, ...]) -> str | None:
        """What comes at these levels after ``up``; None where it is nothing that is taken here."""
        if len(rest) == 1 and rest[0] in {"report", "facts", "status", ANSWER}:
            return rest[0]
        return "telemetry" if len(rest) == 2 and rest[0] == "telemetry" else None  # noqa: PLR2004 - and its stream

    def __init__(
        self,
        database: Database,
        clock: Clock,
        mishaps: Mishaps,
        meters: Meters,
        *,
        telemetry_day_bytes: int = DAY_TELEMETRY,
    ) -> None:
        self._database = database
        self._day_bytes = telemetry_day_bytes
        self._clock = clock
        self._mishaps, self._meters = mishaps, meters
        self._refused = Attempts()
        self._told = Attempts()
        self._sent_again = SentAgain()
        # Checking a signature, which is most of what reading takes, lets go of Python's lock.
        self._readers = ThreadPoolExecutor(threads(granted()), thread_name_prefix="signatures")

    def commit(self, batch: Sequence[Inbound]) -> list[Receipt]:
        """Store a batch in one transaction; returns what to acknowledge.

        Of one device's messages of one kind only the last few count, for each is complete. Signatures are checked on
        all cores, and before the transaction begins, so that nobody waits for them with the database locked.
        """
        chosen = _within_budget(batch)
        keys: dict[str, Keys] = {}
        with self._database.read() as connection:
            for some in pieces({one.device for one in chosen}, TOGETHER):
                known = select(devices.c.id, *device_keys.COLUMNS).where(devices.c.id.in_(some))
                keys |= {row.id: Keys.of(row) for row in connection.execute(known)}
        parts = self._readers.map(lambda some: self._read_some(some, keys), pieces(chosen, TURN))
        read = [one for some in parts for one in some]
        with self._database.write() as connection:
            try:
                with connection.begin_nested():
                    return list(self._together(connection, read).values())
            except OperationalError:
                raise  # the database itself: the whole batch is tried again
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one message, the others count
                log.debug("a batch is taken message by message: %r", error)
            receipts: dict[DeviceId, Receipt] = {}
            for one in read:
                try:
                    with connection.begin_nested():  # a message counts as a whole or not at all
                        receipts |= self._together(connection, [one])
                except OperationalError:
                    raise
                except Exception as error:  # noqa: BLE001 - as above
                    self._mishaps.note("message", f"{one[0].kind} of {one[0].device}", error)
            return list(receipts.values())

    def _together(self, connection: Connection, read: Sequence[tuple[Inbound, Document]]) -> dict[DeviceId, Receipt]:
        """Take messages at once; the receipts by device."""
        receipts: dict[DeviceId, Receipt] = {}
        told: list[tuple[str, str, DeviceId]] = []
        refused: list[tuple[Inbound, Refused]] = []
        known: list[str] = []
        if answers := [one for one in read if one[0].kind == ANSWER]:
            read = [one for one in read if one[0].kind != ANSWER]
            self._answers(connection, answers, told, known, refused)
        for one_of_each in _rounds(read):
            gathered = Gathered(self._clock(), told, known, telemetry_day_bytes=self._day_bytes)
            rows = _rows(connection, {message.device for message, _ in one_of_each})
            for message, document in one_of_each:
                try:
                    receipt = self._take(gathered, rows.get(message.device), message, document)
                except (Invalid, Untrusted) as error:
                    refused.append((message, error))
                else:
                    if receipt:  # numbers of one device only grow, and a new epoch comes after an old one
                        receipts[message.device] = receipt
            gathered.write(connection)
            told += self._sent_again.look(connection, self._clock(), gathered.reports)
        # Last, so that what is tried again is not counted twice.
        for kind, text, device in told:
            self._event(connection, kind, text, device)
        for kind in known:
            self._meters.known(kind)
        for message, why in refused:
            self._refuse(connection, message, why)
        return receipts

    def _answers(
        self,
        connection: Connection,
        read: Sequence[tuple[Inbound, Document]],
        told: list[tuple[str, str, DeviceId]],
        known: list[str],
        refused: list[tuple[Inbound, Refused]],
    ) -> None:
        """Answers to commands, all together: they are parts of one thing, and no rounds."""
        said = []
        for message, document in read:
            match document:
                case Invalid() | Untrusted():
                    refused.append((message, document))
                case Exception():
                    raise document
                case Said(document=Answer() as answer, data=data):
                    said.append(taken.Said(message.device, answer, data))
        taken.take(connection, self._clock(), said, told, known=lambda: known.append(ANSWER))

    def _read_some(self, messages: Sequence[Inbound], keys: Mapping[str, Keys]) -> list[tuple[Inbound, Document]]:
        return [(message, self._read(message, keys.get(message.device))) for message in messages]

    def _read(self, message: Inbound, keys: Keys | None) -> Document:
        """The message's document, verified and decoded; or what is wrong with it."""
        if keys is None:
            return Untrusted("no such device was enrolled", element=message.device)
        try:
            if message.kind == "status":
                limit = report_wire.STATUS_LIMIT
                return canonical.decode(message.payload, Status, limit=limit, what="up/status")
            return signed(message, keys, self._clock())
        except Exception as error:  # noqa: BLE001 - told where the message is taken, which is done alone
            return error

    def _take(self, gathered: Gathered, row: Row[Any] | None, message: Inbound, document: Document) -> Receipt | None:
        if row is not None and row.removed is not None:
            if gathered.now - row.removed > PARTING_S:
                gathered.tell("removed-device", "a removed device still reaches the broker", row.id)
            return None
        if row is not None and row.revoked is not None:
            if gathered.now - row.revoked > PARTING_S:
                gathered.tell("revoked-device", "a device whose certificates are revoked reaches the broker", row.id)
            return None
        if row is None or isinstance(document, Exception):
            raise document if isinstance(document, Exception) else Untrusted("no such device", element=message.device)
        if isinstance(document, Status):
            _status(gathered, row, document)
            return None
        said, data, next_key = document
        if next_key:
            gathered.confirmed.append((message.device, next_key))
        if isinstance(said, Telemetry):
            return _take_telemetry(gathered, row, said, data)
        if isinstance(said, Answer):
            return None  # taken apart from these
        return _take_signed(gathered, row, said, data)

    def _event(self, connection: Connection, kind: str, message: str, device: DeviceId) -> None:
        """An event of a device, which may not fill the disk with them: so many a minute, and no more."""
        self._meters.odd(kind)
        now = self._clock()
        try:
            self._told.failed(device, now)
        except TooMany:
            return
        events.record(connection, now, kind, message, device=device)

    def _refuse(self, connection: Connection, message: Inbound, error: Refused) -> None:
        now = self._clock()
        self._meters.refused(message.kind)
        try:
            self._refused.failed(message.device, now)
        except TooMany:
            return  # enough was said of this device for now; it may not fill the disk
        log.warning("%s of %s ignored: %s", message.kind, message.device, error)
        kind = "forged-message" if isinstance(error, Untrusted) else "bad-message"
        events.record(connection, now, kind, f"up/{message.kind}: {error}", device=message.device)


def _take_signed(gathered: Gathered, row: Row[Any], said: Facts | Report, data: bytes) -> Receipt | None:
    """A document that the device signed: its number says whether it is news."""
    last = row.facts_number if isinstance(said, Facts) else row.report_number
    begun: dict[str, Any] = {}
    match epochs.judge(row, said.epoch, said.number, last):
        case News.CLONE:
            gathered.change(row.id, **epochs.cloned(row, said.epoch, said.number))
            _cloned(gathered, row)
            return None
        case News.RETIRED:
            gathered.known.append("report" if isinstance(said, Report) else "facts")
            return None
        case News.KNOWN:  # its acknowledgement may have been lost
            return _known(gathered, row, said, data)
        case News.NEW_EPOCH:
            begun = epochs.begun(row, said.epoch)
            if row.epoch:
                _new_epoch(gathered, row)
        case News.NEWER:
            pass
    if isinstance(said, Facts):
        gathered.change(row.id, **begun | {"facts": data, "facts_number": said.number, "last_seen": gathered.now})
        gathered.facts.append(row.id)
        return None
    told = {"report": data, "report_number": said.number, "last_seen": gathered.now, "health": health(said)}
    gathered.change(row.id, **begun | told)
    gathered.reports.append((row, said))
    return Receipt(row.id, said.number, said.epoch, telemetry=0 if begun else row.telemetry_number)


def _take_telemetry(gathered: Gathered, row: Row[Any], said: Telemetry, data: bytes) -> Receipt | None:
    heard = news.heard(row, said, gathered.now)
    if heard is None:
        return None
    if heard.columns:
        gathered.change(row.id, **heard.columns)
        gathered.telemetry.append(Taken(row.id, said, data))
    if heard.new_epoch:
        _new_epoch(gathered, row)
    return Receipt(row.id, heard.report, said.epoch, telemetry=heard.telemetry)


def _new_epoch(gathered: Gathered, row: Row[Any]) -> None:
    gathered.tell("new-epoch", "the device lost its database, or an old copy was put back", row.id)


def _known(gathered: Gathered, row: Row[Any], said: Facts | Report, data: bytes) -> Receipt | None:
    """A number that is no news: brought again, replayed, or overtaken; or of somebody who counts otherwise."""
    if isinstance(said, Facts):
        gathered.known.append("facts")
        return None
    gathered.known.append("report")
    twice = said.number == row.report_number and data != row.report
    if twice:  # one agent gives no number twice, unless its state folder was put back
        _cloned(gathered, row)
    elif said.number < row.report_number and row.report and said.issued > _issued(row.report):
        text = f"it says number {said.number} after {row.report_number}, and nothing below that counts"
        gathered.tell("went-back", text, row.id)
    return Receipt(row.id, row.report_number, said.epoch, twice=twice, telemetry=row.telemetry_number)


def _issued(report: bytes) -> float:
    return msgspec.json.decode(report, type=Report).issued


def _cloned(gathered: Gathered, row: Row[Any]) -> None:
    gathered.tell(
        "cloned-identity",
        "two agents speak with this device's identity, or an old copy of its state was put back",
        row.id,
    )


def _status(gathered: Gathered, row: Row[Any], status: Status) -> None:
    if status.epoch in row.retired_epochs:
        return  # the will of a session before the device lost its database, or a clone's, whose reports tell more
    if status.epoch == row.status_epoch and status.boot < row.boot:
        return  # the will of a session that was replaced
    if status.online and (not row.online or status.boot != row.boot or status.epoch != row.status_epoch):
        gathered.returned.append(row.id)
    seen = {"last_seen": gathered.now} if status.online or row.online else {}
    gathered.change(row.id, online=status.online, boot=status.boot, status_epoch=status.epoch, **seen)


def _within_budget(batch: Sequence[Inbound]) -> list[Inbound]:
    """The newest messages of each device and kind, in the order of their arrival."""
    left: Counter[tuple[str, str]] = Counter()
    chosen = []
    for message in reversed(batch):
        left[message.device, message.kind] += 1
        if left[message.device, message.kind] <= OF_ONE_KIND or message.kind == ANSWER:
            chosen.append(message)
    return chosen[::-1]


def _rounds(read: Iterable[tuple[Inbound, Document]]) -> list[list[tuple[Inbound, Document]]]:
    """The messages in their order, in rounds in which no device has two."""
    rounds: list[list[tuple[Inbound, Document]]] = []
    seen: Counter[DeviceId] = Counter()
    for one in read:
        device = one[0].device
        if seen[device] == len(rounds):
            rounds.append([])
        rounds[seen[device]].append(one)
        seen[device] += 1
    return rounds


def _rows(connection: Connection, names: set[DeviceId]) -> dict[str, Row[Any]]:
    found: dict[str, Row[Any]] = {}
    for some in pieces(names, TOGETHER):
        found |= {row.id: row for row in connection.execute(select(*_SEEN).where(devices.c.id.in_(some)))}
    return found
