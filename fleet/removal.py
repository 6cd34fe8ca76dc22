"""What is taken out of the fleet: devices and module versions, unless something uses them, and then it is named.

Nothing of history goes: rollouts, revisions and events keep their rows, and a device's number of orders counts on, so
that a device which joins under the same name again never takes an old order for a new one.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec
from sqlalchemy import Connection, select, update

from fleet import events, revisions, revocation, sealed_secrets
from fleet.commands import given
from fleet.people import reach
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.rollouts import control
from fleet.rollouts.phases import State
from fleet.tables import devices, rollouts, slot_revisions, slots
from fleet.tables import members as member_rows
from fleet.target_tables import endpoints, jobs
from fleet.telemetry import rows as telemetry
from modules.names import DeviceId, Digest, ModuleRef
from modules.protocol.order import SlotOrder
from modules.protocol.report import Report

_SHOWN: Final = 5
_ELSEWHERE: Final = "what is outside of what your rights are for"
_OPEN: Final = (State.SCHEDULED, State.RUNNING, State.PAUSED, State.REVERTING)


def remove_device(connection: Connection, now: float, device: DeviceId, *, by: str = "") -> None:
    """Take a device out: its slots, its order and its certificates hold no more, and what it says counts no more.

    A rollout that is open goes on without it.

    Raises:
        Missing: there is no such device.
    """
    mine = (devices.c.id == device) & devices.c.removed.is_(None)
    if connection.execute(select(devices.c.id).where(mine)).one_or_none() is None:
        raise Missing("there is no such device", element=device)
    for slot in connection.scalars(select(slots.c.slot).where(slots.c.device == device)).all():
        revisions.empty(connection, now, by, device, slot)
    control.depart(connection, device)
    given.depart(connection, now, device)
    telemetry.forget(connection, device)
    sealed_secrets.forget(connection, device)
    revocation.revoke(connection, now, device)
    # What it said last stays to be read; whoever asks for devices that are there asks for ``removed``, too.
    gone = {"removed": now, "removed_by": by, "parting": True, "online": False}
    ordered = {
        "order_envelope": None,
        "order_expires": None,
        "order_due": None,
        "order_published": devices.c.order_counter,
    }
    connection.execute(update(devices).where(mine).values(**gone, **ordered))
    events.record(connection, now, "device-removed", "the device was taken out of the fleet", device=device, by=by)


def revoke_device(connection: Connection, now: float, device: DeviceId, *, by: str = "") -> None:
    """Take back a device's certificates, for its key is in wrong hands; the device stays, with all that is decided.

    It is heard again once it has enrolled with another key and a join bundle made after this.

    Raises:
        Missing: there is no such device.
    """
    mine = (devices.c.id == device) & devices.c.removed.is_(None)
    keys = dict.fromkeys(("next_key", "next_certificate", "previous_key", "previous_until"))
    gone = {"revoked": now, "parting": True, "online": False} | keys
    if connection.execute(update(devices).where(mine).values(**gone)).rowcount != 1:
        raise Missing("there is no such device", element=device)
    revocation.revoke(connection, now, device)
    text = "its certificates were revoked; it has to be enrolled again"
    events.record(connection, now, "device-revoked", text, device=device, by=by)


class _User(NamedTuple):
    """What keeps a module from being removed: a device's slot, a rollout, or an endpoint of the module's own team."""

    said: str
    device: str = ""
    rollout: int = 0
    endpoint: bool = False


def remove_module(
    connection: Connection, now: float, registry: Registry, ref: ModuleRef, scope: Scope = EVERYTHING, *, by: str = ""
) -> None:
    """Take a module version out; its number stays taken. Its blobs go with :meth:`Registry.discard`.

    What uses it outside the scope counts, and is not named.

    Raises:
        Missing: there is no such module.
        Conflict: a device runs it or is ordered to, an endpoint serves it, or an open rollout brings it or could go
            back to it.
    """
    digest = registry.digest(connection, ref)
    using = dict.fromkeys(_using(connection, ref, digest))
    if using:
        named = _listed(connection, scope, using)
        raise Conflict(
            f"it is in use by {named}",
            element=str(ref),
            remedy="roll out or serve another version there, empty the slots, or cancel the rollout",
        )
    registry.remove(connection, ref)
    events.record(connection, now, "module-removed", str(ref), by=by)


def _using(connection: Connection, ref: ModuleRef, digest: Digest) -> Iterator[_User]:
    yield from _on_devices(connection, ref, digest)
    yield from _in_rollouts(connection, ref)
    for endpoint in connection.scalars(select(endpoints.c.name).where(endpoints.c.wish.contains(digest))):
        yield _User(f"endpoint {endpoint}", endpoint=True)
    for job in connection.scalars(select(jobs.c.name).where(jobs.c.digest == digest, jobs.c.on_target == 1)):
        yield _User(f"batch job {job}", endpoint=True)


def _on_devices(connection: Connection, ref: ModuleRef, digest: Digest) -> Iterator[_User]:
    ordered = select(slots.c.device, slots.c.slot, slots.c.document).order_by(slots.c.device, slots.c.slot)
    for row in connection.execute(ordered):
        if _names(row.document, ref):
            yield _User(f"device {row.device}, slot {row.slot}", device=row.device)
    there = devices.c.removed.is_(None) & devices.c.report.is_not(None)
    said = select(devices.c.id, devices.c.report).where(there).order_by(devices.c.id)
    for device, data in connection.execute(said):
        if digest.encode() not in data:
            continue  # decoding the reports of thousands takes seconds
        for slot in msgspec.json.decode(data, type=Report).slots:
            serves = slot.serving is not None and slot.serving.digest == digest
            if serves or slot.digest == digest:
                yield _User(f"device {device}, slot {slot.slot}", device=device)


def _in_rollouts(connection: Connection, ref: ModuleRef) -> Iterator[_User]:
    brings = select(rollouts.c.id).where(rollouts.c.module == str(ref), rollouts.c.state.in_(_OPEN))
    for rollout in connection.scalars(brings.order_by(rollouts.c.id)):
        yield _User(f"rollout {rollout}", rollout=rollout)
    # A cancel orders again what stood in the slot before.
    before = (
        select(rollouts.c.id, slot_revisions.c.document)
        .join(member_rows, member_rows.c.rollout == rollouts.c.id)
        .join(
            slot_revisions,
            (slot_revisions.c.device == member_rows.c.device)
            & (slot_revisions.c.slot == member_rows.c.slot)
            & (
                slot_revisions.c.revision
                == revisions.before(member_rows.c.device, member_rows.c.slot, member_rows.c.revision)
            ),
        )
        .where(rollouts.c.state.in_(_OPEN), member_rows.c.current, slot_revisions.c.document.is_not(None))
    )
    for rollout, document in connection.execute(before.distinct()):
        if _names(document, ref):
            yield _User(f"rollout {rollout}, whose cancel goes back to it", rollout=rollout)


def _names(document: bytes, ref: ModuleRef) -> bool:
    target: str = msgspec.json.decode(document, type=SlotOrder).manifest
    return target == ref.target


def _listed(connection: Connection, scope: Scope, using: Iterable[_User]) -> str:
    every = list(using)
    devices_ = reach.seen_of(connection, scope, {one.device for one in every} - {""})
    rollouts_ = set(connection.scalars(select(rollouts.c.id).where(rollouts.c.state.in_(_OPEN), scope.some_rollouts())))
    seen = [one.said for one in every if one.device in devices_ or one.rollout in rollouts_ or one.endpoint]
    said = "; ".join(seen[:_SHOWN]) + (f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else "")
    if len(seen) == len(every):
        return said
    return f"{said}; and {_ELSEWHERE}" if said else _ELSEWHERE
