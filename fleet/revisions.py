"""What was decided for a device's slots, one revision after the other; the newest stands in ``slots``, for the order.

Nothing here is ever changed or removed, so that a rollout which ends badly knows what ran before it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    Connection,
    Row,
    ScalarSelect,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from fleet.rollouts.phases import Standing
from fleet.tables import members, slots
from fleet.tables import slot_revisions as revisions
from modules.names import DeviceId, Digest
from modules.protocol.order import SlotOrder
from modules.protocol.phases import Phase

# Bound variables of one statement.
_TOGETHER: Final = 500
# What a device says of content that it does not run any more, or never did.
_GONE_BACK: Final = (Phase.REVERTING, Phase.REVERTED, Phase.REJECTED)
_TAKEN_BACK: Final = (Standing.RECALLED, Standing.RETURNING, Standing.RETURNED, Standing.UNRETURNED)

_VALUES: Final[dict[str, Any]] = {name: bindparam(name) for name in ("rollout", "document", "revision", "waiver")}
_REFILL: Final = (
    update(slots).where(slots.c.device == bindparam("of"), slots.c.slot == bindparam("in_slot")).values(_VALUES)
)
_FILL: Final = insert(slots).values(device=bindparam("of"), slot=bindparam("in_slot"), **_VALUES)


def decide(
    connection: Connection,
    now: float,
    by: str,
    device: DeviceId,
    slot: str,
    *,
    rollout: int,
    document: bytes,
    waive: bool = False,
) -> int:
    """A slot is to be filled so; returns the revision. With ``waive``, content that failed there may be tried again."""
    waived = {device: waive}
    return decide_all(connection, now, by, slot, waived, rollout=rollout, document=document)[device]


def decide_all(
    connection: Connection,
    now: float,
    by: str,
    slot: str,
    waived: Mapping[DeviceId, bool],
    *,
    rollout: int,
    document: bytes,
) -> dict[DeviceId, int]:
    """The same for this slot of at most 500 devices, by a few statements; returns the revision of each.

    ``waived`` says of each device whether content that failed there may be tried again.
    """
    newest = _newest_of(connection, list(waived), slot)
    rows: list[dict[str, Any]] = [
        {"device": device, "slot": slot, "revision": newest.get(device, 0) + 1, "rollout": rollout}
        | {"document": document, "at": now, "by": by}
        for device in waived
    ]
    if not rows:
        return {}
    connection.execute(insert(revisions), rows)
    filled = select(slots.c.device).where(slots.c.device.in_(list(waived)), slots.c.slot == slot)
    known = set(connection.scalars(filled))
    wanted = [
        {"of": row["device"], "in_slot": slot, "rollout": rollout, "document": document}
        | {"revision": row["revision"], "waiver": 0 if waived[row["device"]] else None}
        for row in rows
    ]
    for statement, some in (
        (_REFILL, [one for one in wanted if one["of"] in known]),
        (_FILL, [one for one in wanted if one["of"] not in known]),
    ):
        if some:
            connection.execute(statement, some)
    return {row["device"]: row["revision"] for row in rows}


def empty(connection: Connection, now: float, by: str, device: DeviceId, slot: str) -> bool:
    """A slot is to be emptied; False where nothing is to fill it anyway."""
    gone = delete(slots).where(slots.c.device == device, slots.c.slot == slot)
    if connection.execute(gone).rowcount != 1:
        return False
    _add(connection, now, by, device, slot, rollout=None, document=None)
    return True


def back_to_before(connection: Connection, now: float, by: str, device: DeviceId, slot: str, revision: int) -> bool:
    """What ran before ``revision`` is decided again; False where ``revision`` is not the newest any more."""
    if _newest(connection, device, slot) != revision:
        return False
    found = _before(connection, device, slot, revision)
    if found is None or found.document is None:
        return empty(connection, now, by, device, slot)
    decide(connection, now, by, device, slot, rollout=found.rollout, document=found.document)
    return True


def all_heard(connection: Connection, orders: Mapping[DeviceId, int]) -> None:
    """Devices have answered these orders: waivers that they carried have had their effect, and are not given again."""
    given = (slots.c.device.in_(list(orders))) & (slots.c.waiver > 0)
    for row in connection.execute(select(slots.c.device, slots.c.slot, slots.c.waiver).where(given)).all():
        if row.waiver <= orders[row.device]:
            mine = (slots.c.device == row.device) & (slots.c.slot == row.slot)
            connection.execute(update(slots).where(mine).values(waiver=None))


def with_another(connection: Connection, chosen: Sequence[DeviceId], slot: str, digest: Digest) -> frozenset[DeviceId]:
    """Those of these devices that are to have another module than this one in the slot now."""
    found: set[DeviceId] = set()
    for start in range(0, len(chosen), _TOGETHER):
        mine = slots.c.device.in_(chosen[start : start + _TOGETHER]) & (slots.c.slot == slot)
        for row in connection.execute(select(slots.c.device, slots.c.document).where(mine)):
            if msgspec.json.decode(row.document, type=SlotOrder).digest != digest:
                found.add(row.device)
    return frozenset(found)


def view(connection: Connection, device: DeviceId, slot: str) -> list[Row[Any]]:
    """All revisions of a slot, the newest first."""
    mine = (revisions.c.device == device) & (revisions.c.slot == slot)
    return list(connection.execute(select(revisions).where(mine).order_by(revisions.c.revision.desc())))


def _add(
    connection: Connection,
    now: float,
    by: str,
    device: DeviceId,
    slot: str,
    *,
    rollout: int | None,
    document: bytes | None,
) -> int:
    number = _newest(connection, device, slot) + 1
    values = {"device": device, "slot": slot, "revision": number, "document": document, "rollout": rollout}
    connection.execute(insert(revisions).values(**values, at=now, by=by))
    return number


def _newest(connection: Connection, device: DeviceId, slot: str) -> int:
    mine = (revisions.c.device == device) & (revisions.c.slot == slot)
    return int(connection.execute(select(func.max(revisions.c.revision)).where(mine)).scalar_one() or 0)


def _newest_of(connection: Connection, devices: Sequence[DeviceId], slot: str) -> dict[DeviceId, int]:
    mine = revisions.c.device.in_(devices) & (revisions.c.slot == slot)
    chosen = select(revisions.c.device, func.max(revisions.c.revision)).where(mine).group_by(revisions.c.device)
    return {DeviceId(device): revision for device, revision in connection.execute(chosen)}


def before(device: Any, slot: Any, revision: Any) -> ScalarSelect[Any]:
    """The number of the revision to which a slot goes back from this one, in SQL: the newest before it.

    But none that a device has gone back from by itself, for it runs what it ran before and would refuse that content;
    and none that was to be taken back when something newer came.
    """
    earlier, there = revisions.alias(), members.alias()
    gone_back = exists().where(
        there.c.rollout == earlier.c.rollout,
        there.c.device == earlier.c.device,
        or_(there.c.phase.in_(_GONE_BACK), there.c.standing.in_(_TAKEN_BACK)),
    )
    mine = (earlier.c.device == device) & (earlier.c.slot == slot) & (earlier.c.revision < revision)
    return select(func.max(earlier.c.revision)).where(mine, ~gone_back).scalar_subquery()


def _before(connection: Connection, device: DeviceId, slot: str, revision: int) -> Row[Any] | None:
    mine = (revisions.c.device == device) & (revisions.c.slot == slot)
    number = before(device, slot, revision)
    return connection.execute(select(revisions).where(mine, revisions.c.revision == number)).one_or_none()
