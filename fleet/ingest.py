"""What devices say, into rows: verified with the key recorded at enrolment, in one transaction per batch, idempotent.

Numbers only grow, so the order in which messages arrive does not matter, and a retained message that comes again
changes nothing. An acknowledgement is made from what the transaction committed, never before.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, select, update
from sqlalchemy.exc import OperationalError

from fleet import epochs, events, revisions
from fleet.attempts import Attempts
from fleet.clock import Clock
from fleet.db import Database
from fleet.epochs import News
from fleet.mishaps import Mishaps
from fleet.refusals import TooMany
from fleet.rollouts import heard, joining
from fleet.tables import devices
from modules import canonical
from modules.digests import sha256
from modules.errors import Invalid, Refused, Untrusted
from modules.names import DeviceId
from modules.protocol import facts as facts_wire
from modules.protocol import report as report_wire
from modules.protocol.facts import Facts
from modules.protocol.report import Report, Status
from modules.signing import FACTS_TYPE, REPORT_TYPE, key_from_pem, verify

log = logging.getLogger(__name__)

# Messages of one device and kind in one batch; of a flood only the newest are looked at.
OF_ONE_KIND: Final = 20
# What a device that was just removed still says is its goodbye.
PARTING_S: Final = 60.0
# What a message says: a status, or a signed document with its bytes; or why it says nothing.
Document = Status | tuple[Facts | Report, bytes] | Exception


class Inbound(NamedTuple):
    """One message of a device; ``kind`` is the topic level after ``up``."""

    device: DeviceId
    kind: str
    payload: bytes


class Receipt(NamedTuple):
    """The highest report number of a device that is committed, in which of its epochs."""

    device: DeviceId
    report: int
    epoch: str = ""


class Ingest:
    """Takes batches of messages; ``commit`` runs in a worker thread."""

    KINDS: Final = frozenset({"report", "facts", "status"})

    def __init__(self, database: Database, clock: Clock, mishaps: Mishaps) -> None:
        self._database = database
        self._clock = clock
        self._mishaps = mishaps
        self._refused = Attempts()
        self._told = Attempts()

    def commit(self, batch: Sequence[Inbound]) -> list[Receipt]:
        """Store a batch in one transaction; returns what to acknowledge.

        Of one device's messages of one kind only the last few count, for each is complete. Signatures are checked
        before the transaction begins, so that nobody waits for them with the database locked.
        """
        chosen = _within_budget(batch)
        with self._database.read() as connection:
            known = select(devices.c.id, devices.c.public_key).where(devices.c.id.in_({one.device for one in chosen}))
            keys: dict[str, str] = {row.id: row.public_key for row in connection.execute(known)}
        read = [(message, self._read(message, keys.get(message.device))) for message in chosen]
        receipts: dict[DeviceId, Receipt] = {}
        with self._database.write() as connection:
            for message, document in read:
                try:
                    with connection.begin_nested():  # a message counts as a whole or not at all
                        receipt = self._take(connection, message, document)
                except (Invalid, Untrusted) as error:
                    self._refuse(connection, message, error)
                except OperationalError:
                    raise  # the database itself: the whole batch is tried again
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one message, the others count
                    self._mishaps.note("message", f"{message.kind} of {message.device}", error)
                else:
                    if receipt:  # numbers of one device only grow, and a new epoch comes after an old one
                        receipts[message.device] = receipt
        return list(receipts.values())

    def _read(self, message: Inbound, key: str | None) -> Document:
        """The message's document, verified and decoded; or what is wrong with it."""
        if key is None:
            return Untrusted("no such device was enrolled", element=message.device)
        try:
            if message.kind == "status":
                limit = report_wire.STATUS_LIMIT
                return canonical.decode(message.payload, Status, limit=limit, what="up/status")
            return _signed(message, key)
        except Exception as error:  # noqa: BLE001 - told where the message is taken, which is done alone
            return error

    def _take(self, connection: Connection, message: Inbound, document: Document) -> Receipt | None:
        row = connection.execute(select(devices).where(devices.c.id == message.device)).one_or_none()
        if row is not None and row.removed is not None:
            if self._clock() - row.removed > PARTING_S:
                self._event(connection, "removed-device", "a removed device still reaches the broker", row.id)
            return None
        if row is None or isinstance(document, Exception):
            raise document if isinstance(document, Exception) else Untrusted("no such device", element=message.device)
        if isinstance(document, Status):
            self._status(connection, row, document)
            return None
        return self._take_signed(connection, row, *document)

    def _take_signed(self, connection: Connection, row: Row[Any], said: Facts | Report, data: bytes) -> Receipt | None:
        """A document that the device signed: its number says whether it is news."""
        last = row.facts_number if isinstance(said, Facts) else row.report_number
        match epochs.judge(row, said.epoch, said.number, last):
            case News.CLONE:
                self._change(connection, row.id, **epochs.cloned(row, said.epoch, said.number))
                self._cloned(connection, row)
                return None
            case News.RETIRED:
                return None
            case News.KNOWN:  # its acknowledgement may have been lost
                if isinstance(said, Report) and said.number == row.report_number and data != row.report:
                    self._cloned(connection, row)  # one agent gives no number twice
                return Receipt(row.id, row.report_number, said.epoch) if isinstance(said, Report) else None
            case News.NEW_EPOCH:
                self._change(connection, row.id, **epochs.begun(row, said.epoch))
                if row.epoch:
                    self._event(connection, "new-epoch", "the device lost its database and began a new one", row.id)
            case News.NEWER:
                pass
        if isinstance(said, Facts):
            self._change(connection, row.id, facts=data, facts_number=said.number, last_seen=self._clock())
            joining.changed(connection, row.id)
            return None
        self._report(connection, row, said, data)
        return Receipt(row.id, said.number, said.epoch)

    def _cloned(self, connection: Connection, row: Row[Any]) -> None:
        self._event(connection, "cloned-identity", "two agents speak with this device's identity", row.id)

    def _status(self, connection: Connection, row: Row[Any], status: Status) -> None:
        if status.epoch in row.retired_epochs:
            return  # the will of a session before the device lost its database, or a clone's, whose reports tell more
        if status.epoch == row.status_epoch and status.boot < row.boot:
            return  # the will of a session that was replaced
        seen = {"last_seen": self._clock()} if status.online or row.online else {}
        values = {"online": status.online, "boot": status.boot, "status_epoch": status.epoch}
        self._change(connection, row.id, **values, **seen)

    def _report(self, connection: Connection, row: Row[Any], report: Report, data: bytes) -> None:
        now = self._clock()
        self._change(connection, row.id, report=data, report_number=report.number, last_seen=now)
        revisions.heard(connection, row.id, report.order)
        heard.report(connection, now, row.id, report)
        self._refusals(connection, row, report)

    def _refusals(self, connection: Connection, row: Row[Any], report: Report) -> None:
        """New refusals become events: each is a sign of an attack or of a mistake."""
        before = set(msgspec.json.decode(row.report, type=Report).refusals if row.report else ())
        for refusal in report.refusals:
            if refusal not in before:
                what = f"{refusal.what}: {refusal.reason.message} [{refusal.reason.code}]"
                self._event(connection, "device-refused", what, row.id)
                if row.order_envelope and refusal.what == order_name(row.order_envelope):
                    heard.refusal(connection, row.id, row.order_counter, refusal.reason)

    def _event(self, connection: Connection, kind: str, message: str, device: DeviceId) -> None:
        """An event of a device, which may not fill the disk with them: so many a minute, and no more."""
        now = self._clock()
        try:
            self._told.failed(device, now)
        except TooMany:
            return
        events.record(connection, now, kind, message, device=device)

    def _refuse(self, connection: Connection, message: Inbound, error: Refused) -> None:
        now = self._clock()
        try:
            self._refused.failed(message.device, now)
        except TooMany:
            return  # enough was said of this device for now; it may not fill the disk
        log.warning("%s of %s ignored: %s", message.kind, message.device, error)
        kind = "forged-message" if isinstance(error, Untrusted) else "bad-message"
        events.record(connection, now, kind, f"up/{message.kind}: {error}", device=message.device)

    @staticmethod
    def _change(connection: Connection, device: DeviceId, **values: object) -> None:
        connection.execute(update(devices).where(devices.c.id == device).values(**values))


def _within_budget(batch: Sequence[Inbound]) -> list[Inbound]:
    """The newest messages of each device and kind, in the order of their arrival."""
    left: Counter[tuple[str, str]] = Counter()
    chosen = []
    for message in reversed(batch):
        left[message.device, message.kind] += 1
        if left[message.device, message.kind] <= OF_ONE_KIND:
            chosen.append(message)
    return chosen[::-1]


def order_name(envelope: bytes) -> str:
    """How a device names an order that it did not accept, and so may not have been able to read."""
    return f"order {sha256(envelope).removeprefix('sha256:')[:12]}"


def _signed(message: Inbound, key: str) -> tuple[Facts | Report, bytes]:
    kind: type[Facts | Report] = Facts if message.kind == "facts" else Report
    payload_type, limit = (FACTS_TYPE, facts_wire.LIMIT) if kind is Facts else (REPORT_TYPE, report_wire.LIMIT)
    public = key_from_pem(key.encode(), element=message.device)
    data = verify(message.payload, payload_type=payload_type, keys=[public], limit=limit)
    document = canonical.decode(data, kind, limit=limit, what=f"up/{message.kind}")
    if document.device != message.device:
        raise Untrusted(f"the document is {document.device}'s", element=message.device)
    return document, data
