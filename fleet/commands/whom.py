"""Who takes a command, of those that it is meant for, and why others do not: known before anything is signed."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Connection, select

from fleet import devices as known
from fleet.gathered import TOGETHER, pieces
from fleet.people.scope import Scope
from fleet.tables import devices, slots
from modules.errors import Invalid
from modules.names import DeviceId
from modules.protocol import commands as wire
from modules.protocol.batch import BatchOrder
from modules.protocol.commands import Trial
from modules.protocol.facts import TRIES, Facts

# Devices of one request.
AT_MOST: Final = 10_000
_READS: Final = "edgefleet.command/1"
_NOT_THERE: Final = "there is no such device, or your roles do not hold for it"
_REVOKED: Final = "its certificates are revoked: it has to come back first (edgefleet devices readmit)"


class Wish(NamedTuple):
    """What an operator asks for: of one device, of several by name, or of those that a selector means.

    ``trial`` is what a module is to be asked.
    """

    name: str
    device: DeviceId | None = None
    several: tuple[DeviceId, ...] = ()
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


def who(connection: Connection, wish: Wish, scope: Scope) -> tuple[list[DeviceId], list[Misfit]]:
    """The devices that take the command, and those that are meant and do not."""
    misfits: list[Misfit] = []
    only = None if wish.device is None else [wish.device]
    if wish.several:
        there = among(connection, wish.several, known.LIVE & scope.live_devices())
        only = [one for one in dict.fromkeys(wish.several) if one in there]
        misfits += [Misfit(one, (_NOT_THERE,)) for one in dict.fromkeys(wish.several) if one not in there]
    every = known.meant(connection, wish.selector if wish.selector is not None else "*", only, scope)
    meant = [(one.device, one.facts) for one in every]
    if len(meant) > AT_MOST:
        raise Invalid(
            f"{len(meant)} devices are more than the {AT_MOST} of one request",
            element="selector",
            remedy="select fewer, one group after the other",
        )
    has_slot = {device for device, _ in meant} if wish.slot is None else _with_slot(connection, meant, wish.slot)
    revoked = among(connection, [device for device, _ in meant], devices.c.revoked.is_not(None))
    fitting = []
    for device, facts in meant:
        if reasons := ((_REVOKED,) if device in revoked else _reasons(facts, wish, device in has_slot)):
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


def among(connection: Connection, some: Sequence[DeviceId], which: ColumnElement[bool]) -> set[str]:
    """Those of some devices that are as ``which`` says."""
    found: set[str] = set()
    for piece in pieces(some, TOGETHER):
        found.update(connection.scalars(select(devices.c.id).where(devices.c.id.in_(piece), which)))
    return found
