"""Commands as the API shows them, and the results that devices sent."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, select

from fleet.command_tables import command_parts, commands
from fleet.commands.states import OPEN
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Missing
from fleet.tables import devices
from modules.names import DeviceId

# Parts of one answer.
PARTS: Final = 500
# What a result may be to whoever fetches it, and how its file ends. A device chooses among these and no others: nothing
# that a browser would run or show as a page.
CONTENT: Final = {
    "text/plain": "txt",
    "application/json": "json",
    "application/zip": "zip",
    "application/gzip": "gz",
    "application/x-tar": "tar",
}
OTHER: Final = ("application/octet-stream", "bin")
_SHOWN: Final = [
    *(one for one in commands.c if one.name not in {"envelope", "look_at", "reason_code", "reason"}),
    *(commands.c.reason_code, commands.c.reason, devices.c.online),
]


class Result(NamedTuple):
    """Bytes of a result, what they are, and what to call a file of them."""

    content: str
    file: str
    data: bytes


def one(connection: Connection, ident: str, *, first: int = 1) -> dict[str, Any]:
    """A command with its parts from ``first`` on, without their bytes.

    Raises:
        Missing: there is no such command.
    """
    row = _row(connection, ident)
    wanted = select(
        command_parts.c.part,
        command_parts.c.at,
        command_parts.c.state,
        command_parts.c.progress,
        command_parts.c.bytes,
    )
    mine = (command_parts.c.command == row.number) & (command_parts.c.part >= first)
    parts = connection.execute(wanted.where(mine).order_by(command_parts.c.part).limit(PARTS))
    return _view(row) | {"parts": [dict(part._mapping) for part in parts]}  # noqa: SLF001 - its documented name


def stands(connection: Connection, ident: str) -> tuple[bool, int]:
    """Whether a command is over, and how many parts were taken.

    Raises:
        Missing: there is no such command.
    """
    wanted = select(commands.c.state, commands.c.answers).where(commands.c.id == ident)
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise Missing("there is no such command", element=ident[:40])
    return row.state not in OPEN, row.answers


def some(
    connection: Connection,
    scope: Scope = EVERYTHING,
    *,
    device: DeviceId | None = None,
    name: str | None = None,
    states: Sequence[str] = (),
    batch: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[dict[str, Any]]:
    """Commands, the newest first; ``before`` is the number of the last of the page before."""
    mine = scope.of_device(commands.c.device)
    wanted = select(*_SHOWN).join(devices).where(mine).order_by(commands.c.number.desc()).limit(limit)
    for column, value in ((commands.c.device, device), (commands.c.name, name), (commands.c.batch, batch)):
        if value is not None:
            wanted = wanted.where(column == value)
    if states:
        wanted = wanted.where(commands.c.state.in_(states))
    if before is not None:
        wanted = wanted.where(commands.c.number < before)
    return [_view(row) for row in connection.execute(wanted)]


def result(connection: Connection, ident: str, *, first: int = 1, last: int | None = None) -> Result:
    """The pieces of a result from part ``first`` to ``last``, or as far as they came.

    Raises:
        Missing: there is no such command, or its result is not kept any more.
    """
    row = _row(connection, ident)
    mine = (command_parts.c.command == row.number) & (command_parts.c.part >= first)
    if last is not None:
        mine &= command_parts.c.part <= last
    pieces = connection.execute(
        select(command_parts.c.part, command_parts.c.data).where(mine).order_by(command_parts.c.part)
    ).all()
    wanted = max(min(row.answers, row.answers if last is None else last) - first + 1, 0)
    if len(pieces) < wanted:
        raise Missing(
            "its result is not kept any more", element=f"command {ident}", remedy="give the command once more"
        )
    kind = row.content.partition(";")[0].strip().lower()
    content, ending = (kind, CONTENT[kind]) if kind in CONTENT else OTHER
    return Result(content, f"{row.device}-{row.name}-{row.id[:8]}.{ending}", b"".join(piece.data for piece in pieces))


def _row(connection: Connection, ident: str) -> Row[Any]:
    row = connection.execute(select(*_SHOWN).join(devices).where(commands.c.id == ident)).one_or_none()
    if row is None:
        raise Missing("there is no such command", element=ident[:40])
    return row


def _view(row: Row[Any]) -> dict[str, Any]:
    reason = {"code": row.reason_code, "message": row.reason} if row.reason_code or row.reason else None
    return {
        "id": row.id,
        "number": row.number,
        "batch": row.batch,
        "device": row.device,
        "online": row.online,
        "name": row.name,
        "slot": row.slot,
        "arguments": row.arguments,
        "issued": row.issued,
        "expires": row.expires,
        "by": row.by,
        "state": row.state,
        "sent": row.sent,
        "heard": row.heard,
        "ended": row.ended,
        "answers": row.answers,
        "bytes": row.bytes,
        "progress": row.progress,
        "note": row.note,
        "reason": reason,
        "content": row.content,
    }
