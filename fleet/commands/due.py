"""Commands that have to be looked at now: sent, sent again, or given up. An index finds them, nothing is scanned."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, case, func, select, update

from fleet import events
from fleet.command_tables import LET_GO, commands
from fleet.commands.states import AGAIN_S, OFFLINE_S, State, next_look, over_at
from fleet.tables import devices
from modules.names import DeviceId

_SEEN: Final = (
    *(commands.c.number, commands.c.id, commands.c.device, commands.c.name, commands.c.envelope),
    *(commands.c.expires, commands.c.arguments, commands.c.state, commands.c.look_at, devices.c.online),
)
_MINE: Final = commands.c.number == bindparam("of")
_SENT: Final = (
    update(commands)
    .where(_MINE)
    .values(
        look_at=bindparam("next"),
        state=case((commands.c.state == State.WAITING, State.SENT), else_=commands.c.state),
        sent=func.coalesce(commands.c.sent, bindparam("now")),
    )
)
_LATER: Final = update(commands).where(_MINE).values(look_at=bindparam("next"))
_OVER: Final = (
    update(commands).where(_MINE).values(look_at=None, state=State.EXPIRED, ended=bindparam("now"), envelope=LET_GO)
)


def due(connection: Connection, now: float, *, limit: int) -> list[Row[Any]]:
    """What has to be looked at, the longest due first."""
    wanted = select(*_SEEN).join(devices).where(commands.c.look_at <= now).order_by(commands.c.look_at).limit(limit)
    return list(connection.execute(wanted))


def to_send(rows: Sequence[Row[Any]], now: float) -> list[Row[Any]]:
    """Those of them that still hold; a device would refuse the others."""
    return [row for row in rows if now < row.expires]


def looked_at(connection: Connection, now: float, rows: Sequence[Row[Any]]) -> None:
    """Those that held were sent; the others wait for what is on its way, or are over, which is an event.

    What was moved since they were read stays as it is: the device came back or answered, or an operator cancelled it.
    """
    numbers = [row.number for row in rows]
    stands = connection.execute(select(commands.c.number, commands.c.look_at).where(commands.c.number.in_(numbers)))
    look_at = {row.number: row.look_at for row in stands}
    sent, later, over = [], [], []
    for row in rows:
        if look_at[row.number] != row.look_at:
            continue
        running = row.state == State.RUNNING
        after = AGAIN_S if row.online else OFFLINE_S
        one = {"of": row.number, "next": next_look(now, row.expires, row.arguments, running=running, after=after)}
        if now < row.expires:
            sent.append(one | {"now": now})
        elif now < over_at(row.expires, row.arguments, running=running):
            later.append(one)
        else:
            over.append(row)
    for statement, some in ((_SENT, sent), (_LATER, later)):
        if some:
            connection.execute(statement, some)
    if over:
        connection.execute(_OVER, [{"of": row.number, "now": now} for row in over])
        events.record_each(connection, now, "command-expired", [(row.device, _expired(row)) for row in over])


def _expired(row: Row[Any]) -> str:
    why = "it began, and was not heard of any more" if row.state == State.RUNNING else "no answer came in time"
    return f"{row.name} {row.id}: {why}"


def all_again(connection: Connection, now: float) -> None:
    """The broker's session is a new one: what it was given may be lost."""
    connection.execute(update(commands).where(commands.c.look_at > now, commands.c.expires > now).values(look_at=now))


def returned(connection: Connection, now: float, some: Sequence[DeviceId]) -> None:
    """At most 500 devices came online: what waits for them goes out now."""
    mine = commands.c.look_at.is_not(None) & commands.c.device.in_(some) & (commands.c.expires > now)
    connection.execute(update(commands).where(mine).values(look_at=now))
