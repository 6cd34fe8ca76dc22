"""A module on a device is asked from here, by a command; whoever asked waits for what it answered."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, select
from starlette.concurrency import run_in_threadpool

from fleet.commands import view
from fleet.commands.following import Followers
from fleet.commands.states import LATE_S
from fleet.commands.whom import Wish
from fleet.db import Database
from fleet.people.reach import check_devices
from fleet.people.scope import Scope
from fleet.refusals import Conflict, Missing
from fleet.tables import devices, slots
from modules.canonical import UNREADABLE
from modules.errors import Invalid
from modules.names import DeviceId, ModuleRef, Slug
from modules.protocol.commands import MAX_PARTS, TRIED_LIMIT, TRY, Trial, Tried
from modules.protocol.order import SlotOrder

#: how long an answer is waited for on the device, unless whoever asks says otherwise; and at most
WITHIN_S: Final = 20
LONGEST_S: Final = 50


def wish(device: DeviceId, slot: Slug, trial: Trial, within_s: int) -> Wish:
    """The command that asks; a device that does not begin it soon need not begin it at all."""
    return Wish(TRY, device=device, slot=slot, arguments={"seconds": within_s}, expires_s=within_s, trial=trial)


def check(connection: Connection, scope: Scope, device: DeviceId, slot: Slug) -> None:
    """Whether somebody with this scope may ask what serves there, and is heard now.

    Raises:
        Missing: the device has no such slot, or its module is of a team outside of the scope.
        Conflict: the device is offline.
    """
    mine = (slots.c.device == device) & (slots.c.slot == slot)
    document = connection.scalar(select(slots.c.document).where(mine))
    if document is None:
        raise Missing("this device has no such slot", element=f"{device} {slot}", remedy="name one that serves")
    team = ModuleRef.from_target(msgspec.json.decode(document, type=SlotOrder).manifest).team
    check_devices(connection, scope.of_team(team), [device])
    if not connection.scalar(select(devices.c.online).where(devices.c.id == device)):
        raise Conflict("it is offline", element=device, remedy="try again when it is online")


async def answered(database: Database, followers: Followers, ident: str, within_s: int) -> dict[str, Any]:
    """What came of it, once the command is over, or as long as it can take; ``answer`` is None where none came."""
    await followers.wait(database, ident, first=MAX_PARTS + 1, wait_s=2 * within_s + LATE_S)
    return await run_in_threadpool(_look, database, ident)


def _look(database: Database, ident: str) -> dict[str, Any]:
    with database.read() as connection:
        found = view.one(connection, ident)
        answer = _read(view.result(connection, ident).data) if found["state"] == "done" else None
    return {"command": ident, "state": found["state"], "reason": found["reason"], "answer": answer}


def _read(data: bytes) -> dict[str, Any]:
    """What a device said, as the document that it must be.

    Raises:
        Invalid: it is another.
    """
    try:
        if len(data) <= TRIED_LIMIT:
            found: dict[str, Any] = msgspec.to_builtins(msgspec.json.decode(data, type=Tried))
            return found
    except UNREADABLE:
        pass
    raise Invalid("the device's answer cannot be read", element=TRY, remedy="update its agent")
