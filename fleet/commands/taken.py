"""Answers of devices, taken in with everything else that they say: each part once, and only the next one.

An answer counts only if its command exists and is this device's and not over, and if it is the next part; one that was
taken before changes nothing. So whatever order and repetition they come in, what was taken is always the beginning of
what the device said. What is not taken is counted, and is an event with its reason.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, bindparam, insert, select, tuple_, update

from fleet.command_tables import LET_GO, command_parts, commands
from fleet.commands.states import AGAIN_S, OPEN, State, next_look
from fleet.gathered import TOGETHER, pieces
from fleet.tables import devices
from modules.digests import sha256
from modules.names import DeviceId
from modules.protocol.commands import ENDS, MAX_PARTS, RESULT_LIMIT, Answer
from modules.words import printable

_SEEN: Final = (
    *(commands.c.number, commands.c.id, commands.c.device, commands.c.name, commands.c.expires, commands.c.state),
    *(commands.c.arguments, commands.c.answers, commands.c.bytes, commands.c.content),
)
_CHANGED: Final = (
    *("state", "look_at", "heard", "ended", "answers", "bytes"),
    *("progress", "note", "reason_code", "reason", "content"),
)
_UPDATE: Final = (
    update(commands)
    .where(commands.c.number == bindparam("of"))
    .values({name: bindparam(f"new_{name}") for name in _CHANGED})
)
_LET_GO: Final = update(commands).where(commands.c.number == bindparam("of")).values(envelope=LET_GO)
_BAD_ENDS: Final = (State.FAILED, State.REFUSED)
_NOTE: Final = 2000
_WORD: Final = 100


class Said(NamedTuple):
    """An answer whose signature holds for this device's key, and its bytes."""

    device: DeviceId
    answer: Answer
    data: bytes


class _Standing:
    """One command while a batch is taken: what is known of it, and what is new."""

    def __init__(self, row: Row[Any]) -> None:
        self.row = row
        self.state, self.answers, self.bytes, self.content = row.state, row.answers, row.bytes, row.content
        self.digests: dict[int, str] = {}
        self.last: Answer | None = None


def take(
    connection: Connection,
    now: float,
    said: Sequence[Said],
    told: list[tuple[str, str, DeviceId]],
    *,
    known: Callable[[], None],
) -> None:
    """Write what is new, by a few statements, however many answers there are.

    ``told`` takes events, as kind, text and device; ``known`` counts what was taken before or is of no use any more.
    """
    standing = _standing(connection, {one.answer.id for one in said})
    _read_digests(connection, standing, said)
    parts: list[dict[str, Any]] = []
    # The parts of one command follow each other, in whatever order the broker brought them.
    for one in sorted(said, key=lambda one: one.answer.part):
        command = standing.get(one.answer.id)
        digest = sha256(one.data)
        if command is not None and _is_known(command, one, digest):
            known()
        elif why := _why_not(command, one):
            text = f"{printable(one.answer.name, _WORD)} {one.answer.id}, part {one.answer.part}: {why}"
            told.append(("answer-refused", text, one.device))
        elif command is not None:
            parts.append(_next(command, one, digest, now))
    if parts:
        connection.execute(insert(command_parts), parts)
        moved = [(command, command.last) for command in standing.values() if command.last is not None]
        connection.execute(_UPDATE, [_values(command, last, now) for command, last in moved])
        if over := [{"of": command.row.number} for command, _ in moved if command.state not in OPEN]:
            connection.execute(_LET_GO, over)
        for some in pieces({command.row.device for command, _ in moved}, TOGETHER):
            connection.execute(update(devices).where(devices.c.id.in_(some)).values(last_seen=now))
        told += [_ended_badly(command, last) for command, last in moved if command.state in _BAD_ENDS]


def _ended_badly(command: _Standing, last: Answer) -> tuple[str, str, DeviceId]:
    why = f"{last.reason.message} [{last.reason.code}]" if last.reason else "the device gives no reason"
    return f"command-{command.state}", f"{command.row.name} {command.row.id}: {why}", command.row.device


def _is_known(command: _Standing, one: Said, digest: str) -> bool:
    """Taken before, with these very bytes; or nobody waits for it any more, and the device does not know that."""
    mine = command.row.device == one.device and command.row.name == one.answer.name
    if mine and command.state == State.CANCELLED:
        return True
    # Of an old result the pieces are not kept, and nothing to compare with.
    return mine and one.answer.part <= command.answers and command.digests.get(one.answer.part, digest) == digest


def _why_not(command: _Standing | None, one: Said) -> str:
    """Why an answer is not taken, with its code; empty where it is."""
    answer = one.answer
    if command is None:
        return "there is no such command [unknown-command]"
    if command.row.device != one.device or command.row.name != answer.name:
        return "the command is another one's [other-command]"
    if answer.part <= command.answers:
        return "it said this part before, with other words [changed]"
    if command.state not in OPEN:
        return f"the command is over: {command.state} [after-end]"
    if answer.part != command.answers + 1:
        return f"part {command.answers + 1} has not come yet [gap]"
    if answer.part > MAX_PARTS:
        return f"more than {MAX_PARTS} answers to one command [too-many]"
    if command.bytes + len(answer.data) > RESULT_LIMIT:
        return f"the result would be more than {RESULT_LIMIT} bytes [too-large]"
    return ""


def _next(command: _Standing, one: Said, digest: str, now: float) -> dict[str, Any]:
    answer = command.last = one.answer
    command.answers = answer.part
    command.bytes += len(answer.data)
    command.digests[answer.part] = digest
    command.content = command.content or printable(answer.content, _WORD)
    command.state = State(answer.state)
    return {
        "command": command.row.number,
        "part": answer.part,
        "at": now,
        "digest": digest,
        "state": answer.state,
        "progress": answer.progress,
        "bytes": len(answer.data),
        "data": answer.data,
    }


def _values(command: _Standing, last: Answer, now: float) -> dict[str, Any]:
    over, row = last.state in ENDS, command.row
    look_at = None if over else next_look(now, row.expires, row.arguments, running=True, after=AGAIN_S)
    values = {
        "state": command.state,
        "look_at": look_at,
        "heard": now,
        "ended": now if over else None,
        "answers": command.answers,
        "bytes": command.bytes,
        "progress": last.progress,
        "note": printable(last.note, _NOTE),
        "reason_code": printable(last.reason.code, _WORD) if last.reason else "",
        "reason": printable(last.reason.message, _NOTE) if last.reason else "",
        "content": command.content,
    }
    return {"of": row.number} | {f"new_{name}": value for name, value in values.items()}


def _standing(connection: Connection, idents: Iterable[str]) -> dict[str, _Standing]:
    found: dict[str, _Standing] = {}
    for some in pieces(idents, TOGETHER):
        wanted: Select[Any] = select(*_SEEN).where(commands.c.id.in_(some))
        found |= {row.id: _Standing(row) for row in connection.execute(wanted)}
    return found


def _read_digests(connection: Connection, standing: dict[str, _Standing], said: Sequence[Said]) -> None:
    """What was said in the parts that come again."""
    by_number = {one.row.number: one for one in standing.values()}
    again = {
        (standing[one.answer.id].row.number, one.answer.part)
        for one in said
        if one.answer.id in standing and one.answer.part <= standing[one.answer.id].answers
    }
    key = tuple_(command_parts.c.command, command_parts.c.part)
    for some in pieces(again, TOGETHER // 2):
        wanted = select(command_parts.c.command, command_parts.c.part, command_parts.c.digest).where(key.in_(some))
        for row in connection.execute(wanted):
            by_number[row.command].digests[row.part] = row.digest
