"""Commands as operators give them: who takes them is looked at first, then each is signed for its one device."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from securesystemslib.signer import Signer
from sqlalchemy import Connection, bindparam, insert, select, update

from fleet import devices as known
from fleet import events
from fleet.clock import Clock
from fleet.command_tables import LET_GO, commands
from fleet.commands.states import OPEN, State
from fleet.commands.whom import Misfit, Wish, among, who
from fleet.db import Database
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing
from fleet.tables import devices
from modules.errors import Invalid, Unfit
from modules.names import DeviceId, slot_name
from modules.protocol import commands as wire
from modules.protocol.commands import Command, Trial
from modules.signing import COMMAND_TYPE, sign, signed_again

# Wipes a device: one at a time, and by whoever may also take devices out of the fleet.
DECOMMISSION: Final = "decommission"
_SHOWN: Final = 3
_ENVELOPE: Final = update(commands).where(commands.c.number == bindparam("of")).values(envelope=bindparam("fresh"))


class Taken(NamedTuple):
    """Who would get a command, and of those who is away and gets it later, if at all; and who would get none."""

    devices: list[DeviceId]
    away: list[DeviceId]
    misfits: list[Misfit]


class Given(NamedTuple):
    """The commands of one request, as their ids by device, and who got none."""

    batch: str
    commands: dict[DeviceId, str]
    misfits: list[Misfit]


class Commands:
    """Signs commands with the director's key: the one that ``director`` finds named in the transaction."""

    def __init__(self, database: Database, director: Callable[[Connection], Signer], clock: Clock) -> None:
        self._database, self._director, self._clock = database, director, clock

    def give(self, wish: Wish, scope: Scope = EVERYTHING, *, by: str) -> Given:
        """Sign and write down a command for each device that takes it; by a few statements, however many they are.

        Of a bounded scope a selector means its devices alone.

        Raises:
            Invalid: it is not in the list of commands, or something in it is out of bounds.
            Missing: there is no such device, in this scope.
            Unfit: no device takes it; says why.
        """
        now = int(self._clock())
        model = _model(wish, now)
        with self._database.read() as connection:
            fitting, misfits = who(connection, wish, scope)
            signer = self._director(connection)
        if not fitting:
            raise Unfit(_why_none(misfits), element=wish.name, remedy="see edgefleet devices show DEVICE")
        # Signed before the database is locked: of thousands it takes a second.
        batch = secrets.token_hex(16)
        rows = [_row(model, one, batch, by, signer) for one in fitting]
        with self._database.write() as connection:
            if (now_named := self._director(connection)).public_key.keyid != signer.public_key.keyid:
                rows = [row | {"envelope": signed_again(row["envelope"], signers=[now_named])} for row in rows]
            still = among(connection, fitting, known.LIVE)
            rows = [row for row in rows if row["device"] in still]
            misfits += [Misfit(one, ("it was just removed from the fleet",)) for one in fitting if one not in still]
            if rows:
                connection.execute(insert(commands), rows)
            said = _said(model)
            told = [(row["device"], f"{said}, {row['id']}") for row in rows]
            events.record_each(connection, now, "command-given", told, by=by)
        return Given(batch, {row["device"]: row["id"] for row in rows}, misfits)

    def look(self, wish: Wish, scope: Scope = EVERYTHING) -> Taken:
        """Who would get it, as things are now; nothing is given.

        Raises:
            Invalid, Missing: as :meth:`give`.
        """
        _model(wish, int(self._clock()))
        with self._database.read() as connection:
            fitting, misfits = who(connection, wish, scope)
            away = among(connection, fitting, devices.c.online.is_(False))
        return Taken(fitting, [one for one in fitting if one in away], misfits)

    def cancel(self, connection: Connection, ident: str, *, by: str) -> None:
        """Send a command no more, and take no more answers to it; what the device has begun it finishes.

        Raises:
            Missing: there is no such command.
            Conflict: it is over.
        """
        row = connection.execute(select(commands).where(commands.c.id == ident)).one_or_none()
        if row is None:
            raise Missing("there is no such command", element=ident[:40])
        if row.state not in OPEN:
            raise Conflict(f"it is over: {row.state}", element=f"command {ident}", remedy="there is nothing to cancel")
        now = self._clock()
        over = {"state": State.CANCELLED, "look_at": None, "ended": now, "envelope": LET_GO}
        connection.execute(update(commands).where(commands.c.number == row.number).values(**over))
        events.record(connection, now, "command-cancelled", f"{row.name} {row.id}", device=row.device, by=by)


def depart(connection: Connection, now: float, device: DeviceId) -> None:
    """A device leaves the fleet: it is sent nothing any more."""
    mine = (commands.c.device == device) & commands.c.look_at.is_not(None)
    over = {"state": State.CANCELLED, "look_at": None, "ended": now, "note": "the device was removed from the fleet"}
    connection.execute(update(commands).where(mine).values(**over, envelope=LET_GO))


def renew_all(connection: Connection, signer: Signer) -> None:
    """Sign every open command again: devices refuse what a director of before has signed.

    A device that has followed one already knows it by its id, and only answers again.
    """
    rows = connection.execute(select(commands.c.number, commands.c.envelope).where(commands.c.look_at.is_not(None)))
    fresh = [{"of": row.number, "fresh": signed_again(row.envelope, signers=[signer])} for row in rows]
    if fresh:
        connection.execute(_ENVELOPE, fresh)


def _model(wish: Wish, now: int) -> Command:
    """The command without its device.

    Raises:
        Invalid: as modules/protocol/commands.py checks it, or it does not say for whom.
    """
    if [wish.device is None, not wish.several, wish.selector is None].count(False) != 1:
        raise Invalid("say either a device or a selector", element=wish.name[:60], remedy="give one of them")
    if wish.name == DECOMMISSION and wish.device is None:
        raise Invalid("a device is wiped by its own name alone", element=DECOMMISSION, remedy="name the device")
    command = Command(
        id="",
        device=DeviceId(""),
        name=wish.name,
        issued=now,
        expires=now + wish.expires_s,
        slot=None if wish.slot is None else slot_name(wish.slot),
        arguments=dict(wish.arguments),
        batch=wish.batch,
        trial=wish.trial,
    )
    wire.check(command)
    return command


def _row(model: Command, device: DeviceId, batch: str, by: str, signer: Signer) -> dict[str, Any]:
    ident = secrets.token_hex(16)
    command = _for(model, device, ident)
    envelope = sign(wire.encode(command), payload_type=COMMAND_TYPE, signers=[signer])
    return {
        "id": ident,
        "batch": batch,
        "device": device,
        "name": model.name,
        "slot": model.slot,
        "arguments": dict(model.arguments),
        "issued": model.issued,
        "expires": model.expires,
        "envelope": envelope,
        "by": by,
        "state": State.WAITING,
        "look_at": float(model.issued),
        "answers": 0,
        "bytes": 0,
        "note": "",
        "reason_code": "",
        "reason": "",
        "content": "",
    }


def _for(model: Command, device: DeviceId, ident: str) -> Command:
    return Command(
        id=ident,
        device=device,
        name=model.name,
        issued=model.issued,
        expires=model.expires,
        slot=model.slot,
        arguments=model.arguments,
        batch=model.batch,
        trial=model.trial,
    )


def _why_none(misfits: Sequence[Misfit]) -> str:
    if not misfits:
        return "the selector means no device"
    more = f"; and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
    named = "; ".join(f"{one.device}: {', '.join(one.reasons)}" for one in misfits[:_SHOWN])
    return f"no device takes it: {named}{more}"


def _said(model: Command) -> str:
    """The command in words, for the history."""
    slot = f" of slot {model.slot}" if model.slot else ""
    given = "".join(f", {name} {value:g}" for name, value in sorted(model.arguments.items()))
    given += f", {model.trial.path} with {len(model.trial.body)} bytes" if isinstance(model.trial, Trial) else ""
    job = f" {model.batch.name}" if model.batch else ""
    return f"{model.name}{job}{slot}{given}"
