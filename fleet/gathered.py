"""What a batch of messages changes, gathered and then written by a few statements, however many messages it had."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, Row, Update, bindparam, insert, select, update

from fleet import device_keys, revisions
from fleet.commands import due
from fleet.rollouts import heard, phases
from fleet.tables import devices, newcomers
from fleet.telemetry import rows as telemetry
from modules.digests import sha256
from modules.names import DeviceId
from modules.protocol.report import Report, SlotReport
from modules.words import printable

T = TypeVar("T")

# Bound variables of one statement.
TOGETHER: Final = 500
# The most of a phase in an event.
_WORDS: Final = 60


def pieces(every: Iterable[T], size: int) -> Iterator[list[T]]:
    """The same, so many at a time."""
    rest = iter(every)
    while some := list(islice(rest, size)):
        yield some


class Gathered:
    """One round: no device has more than one message in it.

    ``told`` takes the events, as kind, text and device, for whoever writes them; ``known`` the kinds of messages that
    were no news. Of telemetry, so many bytes of a device's stream are kept in a day.
    """

    def __init__(
        self, now: float, told: list[tuple[str, str, DeviceId]], known: list[str], *, telemetry_day_bytes: int
    ) -> None:
        self.now, self.known = now, known
        self.telemetry: list[telemetry.Taken] = []
        self._day_bytes = telemetry_day_bytes
        self.facts: list[DeviceId] = []
        # Devices that signed with the key of their next certificate, and that key.
        self.confirmed: list[tuple[DeviceId, str]] = []
        self.returned: list[DeviceId] = []  # that came online: what waits for them is sent
        self.reports: list[tuple[Row[Any], Report]] = []
        self._told = told
        self._changes: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)

    def tell(self, kind: str, text: str, device: DeviceId) -> None:
        self._told.append((kind, text, device))

    def change(self, device: DeviceId, **values: Any) -> None:
        """Columns of a device."""
        self._changes[tuple(sorted(values))].append(values | {"of": device})

    def write(self, connection: Connection) -> None:
        for device, key in self.confirmed:
            device_keys.confirm(connection, self.now, device, key)
        for columns, values in self._changes.items():
            connection.execute(_update(columns), values)
        for some in pieces(self.returned, TOGETHER):
            due.returned(connection, self.now, some)
        for some in pieces(self.facts, TOGETHER):
            known = set(connection.scalars(select(newcomers.c.device).where(newcomers.c.device.in_(some))))
            if new := [{"device": device} for device in some if device not in known]:
                connection.execute(insert(newcomers), new)
        for some_telemetry in pieces(self.telemetry, TOGETHER):
            telemetry.write(connection, self.now, some_telemetry, day_bytes=self._day_bytes, tell=self.tell)
        for reports in pieces(self.reports, TOGETHER):
            self._write_reports(connection, reports)
            self._odd(connection, reports)

    def _write_reports(self, connection: Connection, reports: Sequence[tuple[Row[Any], Report]]) -> None:
        orders = {row.id: said.order for row, said in reports}
        revisions.all_heard(connection, orders)
        moved = heard.Moved(connection, self.now, list(orders))
        for row, said in reports:
            heard.report(moved, row.id, said)
        moved.write()

    def _odd(self, connection: Connection, reports: Iterable[tuple[Row[Any], Report]]) -> None:
        for row, said in reports:
            if said.refusals:
                self._refusals(connection, row, said)
            if strange := [one for one in said.slots if not phases.known(one.phase, _health(one))]:
                self._strange(row, strange)

    def _refusals(self, connection: Connection, row: Row[Any], report: Report) -> None:
        """New refusals become events: each is a sign of an attack or of a mistake."""
        mine = select(devices.c.order_counter, devices.c.order_envelope).where(devices.c.id == row.id)
        order = connection.execute(mine).one()
        before = set(msgspec.json.decode(row.report, type=Report).refusals if row.report else ())
        for refusal in report.refusals:
            if refusal not in before:
                self.tell("device-refused", f"{refusal.what}: {refusal.reason.message} [{refusal.reason.code}]", row.id)
                if order.order_envelope and refusal.what == order_name(order.order_envelope):
                    heard.refusal(connection, row.id, order.order_counter, refusal.reason)

    def _strange(self, row: Row[Any], said: Sequence[SlotReport]) -> None:
        """Phases that are neither success nor failure: of a newer agent, or made up. Once each."""
        before = msgspec.json.decode(row.report, type=Report).slots if row.report else ()
        told = {(one.slot, one.phase, _health(one)) for one in before}
        for one in said:
            if (one.slot, one.phase, _health(one)) not in told:
                words = printable(" ".join((one.phase, _health(one))).strip(), _WORDS)
                text = f"slot {one.slot} is said to be {words!r}, which this server does not know and does not count"
                self.tell("unknown-phase", text, row.id)


def _health(said: SlotReport) -> str:
    return said.current.state if said.current else ""


@cache
def _update(columns: tuple[str, ...]) -> Update:
    """The statement that sets these columns of many devices."""
    return update(devices).where(devices.c.id == bindparam("of")).values({name: bindparam(name) for name in columns})


def order_name(envelope: bytes) -> str:
    """How a device names an order that it did not accept, and so may not have been able to read."""
    return f"order {sha256(envelope).removeprefix('sha256:')[:12]}"
