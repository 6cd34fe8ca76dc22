"""The fleet's devices: what is known of each, which a selector means, and their labels."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from cryptography import x509
from sqlalchemy import Connection, Row, select, update

from fleet import selectors
from fleet.db import Database
from fleet.device_states import state
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Missing
from fleet.rollouts.model import Candidate
from fleet.tables import devices, slots
from modules.certificate_life import due_at
from modules.names import DeviceId
from modules.needs import HostFacts
from modules.protocol.facts import Facts
from modules.protocol.order import SlotOrder
from modules.protocol.report import Report

CPU: Final = "CPUExecutionProvider"
LIVE: Final = devices.c.removed.is_(None)
# Bound variables of one statement.
_TOGETHER: Final = 500


class Meant(NamedTuple):
    """A device that a selector means: all its labels, and its facts where it has sent any."""

    device: DeviceId
    labels: selectors.Labels
    facts: Facts | None


def view(connection: Connection, device: DeviceId) -> dict[str, Any]:
    """One device as the API shows it; one that was removed, too, as it was, with when and by whom.

    Raises:
        Missing: there was never such a device.
    """
    row = connection.execute(select(devices).where(devices.c.id == device)).one_or_none()
    if row is None:
        raise Missing("there is no such device", element=device)
    shown = _view(row, list(connection.execute(select(slots).where(slots.c.device == device))))
    parted = {} if row.removed is None else {"removed": row.removed, "removed_by": row.removed_by}
    return shown | {"revoked": row.revoked, "certificate": _certificate(row)} | parted


def view_all(connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """Every device of a scope, by id."""
    ordered: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(slots).where(scope.of_device(slots.c.device))):
        ordered.setdefault(row.device, []).append(row)
    rows = connection.execute(select(devices).where(LIVE, scope.live_devices()).order_by(devices.c.id))
    return [_view(row, ordered.get(row.id, [])) for row in rows]


def some(connection: Connection, chosen: Sequence[DeviceId]) -> list[dict[str, Any]]:
    """These devices, in this order."""
    ordered: dict[str, list[Row[Any]]] = {}
    rows: dict[str, Row[Any]] = {}
    for start in range(0, len(chosen), _TOGETHER):
        mine = chosen[start : start + _TOGETHER]
        for row in connection.execute(select(slots).where(slots.c.device.in_(mine))):
            ordered.setdefault(row.device, []).append(row)
        rows |= {row.id: row for row in connection.execute(select(devices).where(devices.c.id.in_(mine)))}
    return [_view(rows[one], ordered.get(one, [])) for one in chosen if one in rows]


def labels_of(database: Database, device: DeviceId) -> dict[str, str]:
    """A device's labels, none where there is no such device. Blocking."""
    with database.read() as connection:
        found: dict[str, str] | None = connection.scalar(select(devices.c.labels).where(devices.c.id == device, LIVE))
    return found or {}


def set_labels(connection: Connection, device: DeviceId, labels: dict[str, str]) -> None:
    """Replace a device's labels.

    Raises:
        Missing: there is no such device.
        Invalid: a label that no selector could name.
    """
    changed = update(devices).where(devices.c.id == device, LIVE).values(labels=selectors.check_labels(labels))
    if connection.execute(changed).rowcount != 1:
        raise Missing("there is no such device", element=device)
    # Its fallback may be another group's now (fleet/fallbacks/).
    ordered = (devices.c.id == device) & devices.c.order_envelope.is_not(None)
    connection.execute(update(devices).where(ordered).values(order_due=0.0))


def chosen(
    connection: Connection, selector: str, only: Sequence[DeviceId] | None
) -> list[tuple[Candidate, HostFacts | None]]:
    """The devices that a selector matches, with their facts where they have sent any.

    Raises:
        Missing, Invalid: as :func:`meant`.
    """
    found = meant(connection, selector, only)
    return [(Candidate(one.device, one.labels), one.facts.host if one.facts else None) for one in found]


def meant(
    connection: Connection, selector: str, only: Sequence[DeviceId] | None, scope: Scope = EVERYTHING
) -> list[Meant]:
    """The devices of a scope that a selector matches; with ``only``, no others than these.

    Raises:
        Missing: a device named in ``only`` does not exist, in this scope.
        Invalid: the selector is unreadable.
    """
    wanted = selectors.parse(selector)
    every = select(devices.c.id, devices.c.labels, devices.c.facts).where(LIVE, scope.live_devices())
    if only is None:
        rows = {row.id: row for row in connection.execute(every)}
    else:
        rows = {}
        for start in range(0, len(only), _TOGETHER):
            some = devices.c.id.in_(only[start : start + _TOGETHER])
            rows |= {row.id: row for row in connection.execute(every.where(some))}
        for device in only:
            if device not in rows:
                raise Missing("there is no such device", element=device, remedy="see edgefleet devices list")
        rows = {device: rows[device] for device in only}
    found = []
    for row in rows.values():
        facts = msgspec.json.decode(row.facts, type=Facts) if row.facts else None
        labels = row.labels | (described(facts) if facts else {}) | {"id": row.id}
        if wanted.matches(labels):
            found.append(Meant(row.id, labels, facts))
    return found


def described(facts: Facts) -> dict[str, str | frozenset[str]]:
    """What a device says of itself, as labels that a selector can name."""
    host = facts.host
    os, _, arch = host.platform.partition("/")
    return {
        "host.os": os,
        "host.arch": arch,
        "host.cores": f"{host.cores:.9f}".rstrip("0").rstrip("."),
        "host.memory_mb": str(host.memory_mb),
        "host.disk_free_mb": str(host.disk_free_mb),
        "host.accelerator": frozenset(one.kind for one in host.accelerators),
        "host.provider": frozenset(name for one in host.accelerators for name in one.providers) | {CPU},
        "host.engine": frozenset(one.name for one in host.engines),
        "agent.version": facts.agent,
    }


def _certificate(row: Row[Any]) -> dict[str, Any] | None:
    """The one that it uses: its number, when it ends, and when the device renews it; None where it has none."""
    if row.revoked is not None or not row.certificate:
        return None
    one = x509.load_pem_x509_certificate(row.certificate.encode())
    begins, ends = one.not_valid_before_utc.timestamp(), one.not_valid_after_utc.timestamp()
    return {"serial": f"{one.serial_number:x}", "ends": ends, "renewal_due": due_at(begins, ends, row.id)}


def _view(row: Row[Any], ordered: list[Row[Any]]) -> dict[str, Any]:
    return {
        "id": row.id,
        "labels": row.labels,
        "online": row.online,
        "state": state(row),
        "enrolled": row.enrolled,
        "last_seen": row.last_seen,
        "facts": _plain(row.facts, Facts),
        "order": {
            "counter": row.order_counter,
            "slots": {one.slot: _plain(one.document, SlotOrder) for one in ordered},
        },
        "report": _plain(row.report, Report),
    }


def _plain(data: bytes | None, kind: type) -> Any:
    """A stored document as plain JSON values, its defaults filled in."""
    return None if data is None else msgspec.to_builtins(msgspec.json.decode(data, type=kind))
