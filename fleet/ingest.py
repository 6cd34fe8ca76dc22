"""What devices say, into rows: verified with the key recorded at enrolment, in one transaction per batch, idempotent.

Numbers only grow, so the order in which messages arrive does not matter, and a retained message that comes again
changes nothing. An acknowledgement is made from what the transaction committed, never before.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, select, update

from fleet import events
from fleet.attempts import Attempts
from fleet.clock import Clock
from fleet.db import Database
from fleet.refusals import TooMany
from fleet.rollouts import members
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


class Inbound(NamedTuple):
    """One message of a device; ``kind`` is the topic level after ``up``."""

    device: DeviceId
    kind: str
    payload: bytes


class Receipt(NamedTuple):
    """The highest report number of a device that is committed."""

    device: DeviceId
    report: int


class Ingest:
    """Takes batches of messages; ``commit`` runs in a worker thread."""

    KINDS: Final = frozenset({"report", "facts", "status"})

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._refused = Attempts()

    def commit(self, batch: Sequence[Inbound]) -> list[Receipt]:
        """Store a batch in one transaction; returns what to acknowledge."""
        receipts: dict[DeviceId, int] = {}
        with self._database.write() as connection:
            for message in batch:
                try:
                    with connection.begin_nested():  # a message counts as a whole or not at all
                        number = self._take(connection, message)
                except (Invalid, Untrusted) as error:
                    self._refuse(connection, message, error)
                    continue
                if number is not None:
                    receipts[message.device] = max(number, receipts.get(message.device, 0))
        return [Receipt(device, number) for device, number in receipts.items()]

    def _take(self, connection: Connection, message: Inbound) -> int | None:
        row = connection.execute(select(devices).where(devices.c.id == message.device)).one_or_none()
        if row is None:
            raise Untrusted("no such device was enrolled", element=message.device)
        if message.kind == "status":
            self._status(connection, row, message.payload)
            return None
        if message.kind == "facts":
            self._facts(connection, row, message.payload)
            return None
        return self._report(connection, row, message.payload)

    def _status(self, connection: Connection, row: Row[Any], payload: bytes) -> None:
        status = canonical.decode(payload, Status, limit=report_wire.STATUS_LIMIT, what="up/status")
        if status.boot < row.boot:
            return  # the will of a session that was replaced
        seen = {"last_seen": self._clock()} if status.online or row.online else {}
        self._change(connection, row.id, online=status.online, boot=status.boot, **seen)

    def _facts(self, connection: Connection, row: Row[Any], payload: bytes) -> None:
        data = _signed(row, payload, FACTS_TYPE, facts_wire.LIMIT)
        facts = canonical.decode(data, Facts, limit=facts_wire.LIMIT, what="up/facts")
        _check_device(row.id, facts.device)
        if facts.number > row.facts_number:
            self._change(connection, row.id, facts=data, facts_number=facts.number, last_seen=self._clock())

    def _report(self, connection: Connection, row: Row[Any], payload: bytes) -> int:
        data = _signed(row, payload, REPORT_TYPE, report_wire.LIMIT)
        report = canonical.decode(data, Report, limit=report_wire.LIMIT, what="up/report")
        _check_device(row.id, report.device)
        if report.number <= row.report_number:
            return int(row.report_number)  # known; its acknowledgement may have been lost
        now = self._clock()
        self._change(connection, row.id, report=data, report_number=report.number, last_seen=now)
        for slot in report.slots:
            members.reported(connection, row.id, report.order, slot)
        self._refusals(connection, row, report, now)
        return report.number

    @staticmethod
    def _refusals(connection: Connection, row: Row[Any], report: Report, now: float) -> None:
        """New refusals become events: each is a sign of an attack or of a mistake."""
        before = set(
            canonical.decode(row.report, Report, limit=len(row.report), what="report").refusals if row.report else ()
        )
        for refusal in report.refusals:
            if refusal not in before:
                what = f"{refusal.what}: {refusal.reason.message} [{refusal.reason.code}]"
                events.record(connection, now, "device-refused", what, device=row.id)
                if row.order_envelope and refusal.what == order_name(row.order_envelope):
                    members.refused(connection, row.id, row.order_counter, refusal.reason)

    def _refuse(self, connection: Connection, message: Inbound, error: Refused) -> None:
        now = self._clock()
        try:
            self._refused.check(message.device, now)
        except TooMany:
            return  # enough was said of this device for now; it may not fill the disk
        self._refused.failed(message.device, now)
        log.warning("%s of %s ignored: %s", message.kind, message.device, error)
        kind = "forged-message" if isinstance(error, Untrusted) else "bad-message"
        events.record(connection, now, kind, f"up/{message.kind}: {error}", device=message.device)

    @staticmethod
    def _change(connection: Connection, device: DeviceId, **values: object) -> None:
        connection.execute(update(devices).where(devices.c.id == device).values(**values))


def order_name(envelope: bytes) -> str:
    """How a device names an order that it did not accept, and so may not have been able to read."""
    return f"order {sha256(envelope).removeprefix('sha256:')[:12]}"


def _signed(row: Row[Any], envelope: bytes, payload_type: str, limit: int) -> bytes:
    key = key_from_pem(row.public_key.encode(), element=row.id)
    return verify(envelope, payload_type=payload_type, keys=[key], limit=limit)


def _check_device(topic: DeviceId, document: DeviceId) -> None:
    if topic != document:
        raise Untrusted(f"the document is {document}'s", element=topic)
