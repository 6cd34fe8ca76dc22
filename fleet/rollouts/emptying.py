"""Under four eyes a slot is emptied once two people have said so: the first word waits for a day, and is an event."""

from typing import Final

from sqlalchemy import Connection, delete, insert, select

from fleet import events
from fleet.refusals import Missing
from fleet.rollouts import four_eyes
from fleet.tables import emptyings, slots
from modules.names import DeviceId, Slug

WAITS_S: Final = 86400.0


def agreed(connection: Connection, now: float, device: DeviceId, slot: Slug, *, by: str, operator: int | None) -> bool:
    """Whether another operator has said the same of what the slot has now; if not, that this one did is noted.

    Raises:
        Missing: no module is ordered for this slot.
        Forbidden: nobody knows who says it.
    """
    content = (slots.c.device == device) & (slots.c.slot == slot)
    revision = connection.scalar(select(slots.c.revision).where(content))
    if revision is None:
        raise none_ordered(device, slot)
    four_eyes.check_starter(operator, f"{device}/{slot}")
    connection.execute(delete(emptyings).where(emptyings.c.at <= now - WAITS_S))
    mine = (emptyings.c.device == device) & (emptyings.c.slot == slot)
    first = connection.execute(select(emptyings).where(mine, emptyings.c.revision == revision)).one_or_none()
    if first is not None and first.operator == operator:
        return False
    connection.execute(delete(emptyings).where(mine))
    if first is None:
        row = {"device": device, "slot": slot, "revision": revision, "operator": operator, "at": now}
        connection.execute(insert(emptyings).values(**row))
        text = f"slot {slot} is emptied once another person asks for it within a day"
        events.record(connection, now, "emptying-waits", text, device=device, by=by)
    return first is not None


def none_ordered(device: DeviceId, slot: Slug) -> Missing:
    return Missing("no module is ordered for this slot", element=f"{device}/{slot}")
