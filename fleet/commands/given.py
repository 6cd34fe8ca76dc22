"""Commands as operators give them: who takes them is looked at first, then each is signed for its one device."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from msgspec import UNSET, UnsetType
from securesystemslib.signer import Signer
from sqlalchemy import Connection, bindparam, insert, select, update

from fleet import devices as known
from fleet import events
from fleet.clock import Clock
from fleet.command_tables import LET_GO, commands
from fleet.commands.states import OPEN, State
from fleet.db import Database
from fleet.gathered import TOGETHER, pieces
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict, Missing
from fleet.tables import devices, slots
from modules.errors import Invalid, Unfit
from modules.names import DeviceId, slot_name
from modules.protocol import commands as wire
from modules.protocol.batch import BatchOrder
from modules.protocol.commands import Command, Trial
from modules.protocol.facts import TRIES, Facts
from modules.signing import COMMAND_TYPE, sign, signed_again

# Wipes a device: one at a time, and by whoever may also take devices out of the fleet.
DECOMMISSION: Final = "decommission"
# Devices of one request.
AT_MOST: Final = 10_000
_SHOWN: Final = 3
_READS: Final = "edgefleet.command/1"
_ENVELOPE: Final = update(commands).where(commands.c.number == bindparam("of")).values(envelope=bindparam("fresh"))


class Wish(NamedTuple):
    """What an operator asks for: of one device, or of those that a selector means.

    ``trial`` is what a module is to be asked.
    """

    name: str
    device: DeviceId | None = None
    selector: str | None = None
    slot: str | None = None
    arguments: Mapping[str, float] = MappingProxyType({})
    expires_s: int = 3600
    batch: BatchOrder | None = None
    trial: Trial | UnsetType = UNSET


class Misfit(NamedTuple):
    """A device that is sent nothing, and why."""

    device: str
    reasons: tuple[str, ...]


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
        if (wish.device is None) == (wish.selector is None):
            raise Invalid("say either a device or a selector", element=wish.name[:60], remedy="give one of them")
        if wish.name == DECOMMISSION and wish.device is None:
            raise Invalid("a device is wiped by its own name alone", element=DECOMMISSION, remedy="name the device")
        now = int(self._clock())
        model = _model(wish, now)
        with self._database.read() as connection:
            fitting, misfits = _who(connection, wish, scope)
            signer = self._director(connection)
        if not fitting:
            raise Unfit(_why_none(misfits), element=wish.name, remedy="see edgefleet devices show DEVICE")
        # Signed before the database is locked: of thousands it takes a second.
        batch = secrets.token_hex(16)
        rows = [_row(model, one, batch, by, signer) for one in fitting]
        with self._database.write() as connection:
            if (now_named := self._director(connection)).public_key.keyid != signer.public_key.keyid:
                rows = [row | {"envelope": signed_again(row["envelope"], signers=[now_named])} for row in rows]
            still = _live(connection, fitting)
            rows = [row for row in rows if row["device"] in still]
            misfits += [Misfit(one, ("it was just removed from the fleet",)) for one in fitting if one not in still]
            if rows:
                connection.execute(insert(commands), rows)
            said = _said(model)
            told = [(row["device"], f"{said}, {row['id']}") for row in rows]
            events.record_each(connection, now, "command-given", told, by=by)
        return Given(batch, {row["device"]: row["id"] for row in rows}, misfits)

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
        Invalid: as modules/protocol/commands.py checks it.
    """
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


def _who(connection: Connection, wish: Wish, scope: Scope) -> tuple[list[DeviceId], list[Misfit]]:
    """The devices that take the command, and those that are meant and do not."""
    only = None if wish.device is None else [wish.device]
    every = known.meant(connection, wish.selector if wish.selector is not None else "*", only, scope)
    meant = [(one.device, one.facts) for one in every]
    if len(meant) > AT_MOST:
        raise Invalid(
            f"{len(meant)} devices are more than the {AT_MOST} of one request",
            element="selector",
            remedy="select fewer, one group after the other",
        )
    has_slot = {device for device, _ in meant} if wish.slot is None else _with_slot(connection, meant, wish.slot)
    fitting, misfits = [], []
    for device, facts in meant:
        if reasons := _reasons(facts, wish, device in has_slot):
            misfits.append(Misfit(device, reasons))
        else:
            fitting.append(device)
    return fitting, misfits


def _reasons(facts: Facts | None, wish: Wish, has_slot: bool) -> tuple[str, ...]:  # noqa: FBT001 - as it is found
    if facts is None:
        return ("it has not said yet what it is: it has to be online once",)
    reasons = []
    if _READS not in facts.formats:
        reasons.append(f"its agent {facts.agent} knows no commands: update it")
    elif wish.name == wire.TRY and TRIES not in facts.formats:
        reasons.append("nobody may ask its modules from afar: its setting try_module says so, or its agent is older")
    if not has_slot:
        reasons.append(f"it has no slot {wish.slot}")
    return tuple(reasons)


def _with_slot(connection: Connection, meant: Sequence[tuple[DeviceId, object]], slot: str) -> set[str]:
    """Those that are ordered to run something in this slot."""
    found: set[str] = set()
    for some in pieces((device for device, _ in meant), TOGETHER):
        wanted = select(slots.c.device).where(slots.c.slot == slot, slots.c.device.in_(some))
        found.update(connection.scalars(wanted))
    return found


def _live(connection: Connection, fitting: Sequence[DeviceId]) -> set[str]:
    found: set[str] = set()
    for some in pieces(fitting, TOGETHER):
        found.update(connection.scalars(select(devices.c.id).where(devices.c.id.in_(some), known.LIVE)))
    return found


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
