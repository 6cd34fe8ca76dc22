"""Which devices a module version is ordered to: what the newest word about each of their slots brings there.

A device that was taken out of the fleet has no slots, so that none is looked at to count them.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, distinct, false, func, or_, select, true

from fleet.devices import LIVE
from fleet.people.scope import Area, Scope
from fleet.registry import Registry
from fleet.tables import devices, rollouts, slots
from modules.names import ModuleRef

# Bound variables of one statement.
_TOGETHER: Final = 500


def counted(connection: Connection, scope: Scope) -> dict[str, Any]:
    """How many devices of a scope each module is ordered to, and how many devices there are."""
    module = rollouts.c.module
    number = func.count(distinct(slots.c.device))
    ordered = select(module, number).select_from(slots.join(rollouts)).where(_mine(scope))
    found = connection.execute(ordered.group_by(module)).all()
    every = select(func.count()).select_from(devices).where(LIVE, scope.live_devices())
    return {"devices": connection.scalar(every), "modules": {row[0]: row[1] for row in found}}


def some(
    connection: Connection, registry: Registry, ref: ModuleRef, scope: Scope, *, after: str, limit: int
) -> list[dict[str, Any]]:
    """Devices that one module is ordered to, with the slots, by their id, after one of them.

    Raises:
        Missing: there is no such module.
    """
    registry.digest(connection, ref)
    joined = slots.join(rollouts)
    ordered = _mine(scope) & (rollouts.c.module == str(ref))
    page = select(slots.c.device).select_from(joined).where(ordered, slots.c.device > after).distinct()
    named = list(connection.scalars(page.order_by(slots.c.device).limit(limit)))
    found: dict[str, dict[str, Any]] = {}
    for begin in range(0, len(named), _TOGETHER):
        chosen = select(slots.c.device, slots.c.slot, devices.c.online).select_from(joined.join(devices))
        mine = ordered & slots.c.device.in_(named[begin : begin + _TOGETHER])
        for row in connection.execute(chosen.where(mine).order_by(slots.c.device, slots.c.slot)):
            one = found.setdefault(row.device, {"device": row.device, "online": bool(row.online), "slots": []})
            one["slots"].append(row.slot)
    return list(found.values())


def _mine(scope: Scope) -> ColumnElement[bool]:
    """Slots of devices, with modules of teams, of the same area."""
    return true() if scope.unlimited else or_(false(), *(_of_area(one) for one in scope.areas))


def _of_area(area: Area) -> ColumnElement[bool]:
    teams = (rollouts.c.module.startswith(f"{one}/", autoescape=True) for one in sorted(area.teams or ()))
    theirs = true() if area.teams is None else or_(false(), *teams)
    return and_(theirs, Scope((area,)).of_device(slots.c.device))
