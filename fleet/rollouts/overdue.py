"""Devices whose time is over: online, it is a failure; offline, they are left behind and hold nobody up."""

from sqlalchemy import Connection, select

from fleet.rollouts import members
from fleet.rollouts.phases import Standing
from fleet.tables import devices
from fleet.tables import members as rows


def sweep(connection: Connection, now: float, *, limit: int) -> bool:
    """Look at the next devices that are overdue; True if there may be more."""
    late = select(rows.c.device, rows.c.rollout, rows.c.standing, devices.c.online).join(devices)
    chosen = connection.execute(late.where(rows.c.due <= now).order_by(rows.c.due).limit(limit)).all()
    for row in chosen:
        mine = members.of(row.device, row.rollout)
        if row.standing == Standing.RETURNING:
            members.change(connection, mine, due=None, standing=Standing.UNRETURNED, note="it did not answer in time")
        elif row.standing == Standing.WORKING and row.online:
            members.change(connection, mine, due=None, standing=Standing.FAILED, note="not done by its deadline")
        elif row.standing == Standing.WORKING:
            members.change(connection, mine, due=None, standing=Standing.UNREACHED, note="offline at its deadline")
        else:
            members.change(connection, mine, due=None)
    return len(chosen) == limit
