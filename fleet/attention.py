"""What in the fleet needs somebody: each in one sentence, with what it is about and where to go."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, func, select

from fleet.device_states import STATE
from fleet.devices import LIVE
from fleet.people.scope import Scope
from fleet.rollouts import view
from fleet.rollouts.phases import State
from fleet.tables import devices, stopped_kinds
from fleet.target_tables import targets

DAY_S: Final = 86_400.0
# A rollout that failed is told of for so long, unless a newer one has taken its slot.
_FAILED_S: Final = 7 * DAY_S
_NEWEST: Final = 50
_NAMED: Final = 3
_FAILED: Final = frozenset({State.FAILED, State.REVERTED, State.PARTIAL})


class Sight(NamedTuple):
    """Where whoever asks may see what; an empty scope: nowhere."""

    devices: Scope
    rollouts: Scope
    events: Scope
    joins: Scope
    targets: Scope


class Server(NamedTuple):
    """What the server itself has to say: empty where all is well."""

    broker: str
    trouble: str
    warnings: Sequence[str]


Kind = Literal[
    "server-trouble",
    "no-broker",
    "ends-soon",
    "rollout-failed",
    "rollout-paused",
    "rollout-stopped",
    "rollout-waits",
    "degraded",
    "offline",
    "target-trouble",
    "join-waits",
]


class Item(NamedTuple):
    """``level`` is bad where something does not work; ``go`` is a page of the console, ``command`` leads there, too."""

    kind: Kind
    level: Literal["bad", "warn"]
    about: str
    says: str
    go: str
    command: str
    since: float | None = None


def items(connection: Connection, now: float, sight: Sight, server: Server, *, waiting: int) -> list[Item]:
    """The worst first."""
    found = [
        *_server(server),
        *(_rollouts(connection, now, sight.rollouts) if sight.rollouts.areas else ()),
        *_degraded(connection, sight.devices),
        *(_targets(connection) if sight.targets.areas else ()),
        *_offline(connection, now, sight.devices),
    ]
    if waiting:
        who = "A device waits" if waiting == 1 else f"{waiting} devices wait"
        says = f"{who} to be let into the fleet: compare the key's fingerprint with what the device shows"
        found.append(Item("join-waits", "warn", "joining", says, "/devices#waiting", "edgefleet devices pending"))
    return sorted(found, key=lambda one: one.level)  # bad comes before warn


def _server(server: Server) -> Iterator[Item]:
    if server.trouble:
        yield Item("server-trouble", "bad", "fleet server", server.trouble, "/settings", "edgefleet status")
    if server.broker:
        says = f"The server has no session with the broker, so devices get no orders: {server.broker}"
        yield Item("no-broker", "bad", "broker", says, "/settings", "edgefleet status")
    for words in server.warnings:
        yield Item("ends-soon", "warn", words.partition(" ")[0], words, "/settings", "edgefleet status")


def _rollouts(connection: Connection, now: float, scope: Scope) -> Iterator[Item]:
    taken: set[tuple[str, str]] = set()
    found = view.some(connection, scope, limit=_NEWEST)
    stopped = _stopped(connection, [int(one["id"]) for one in found if one["state"] == State.RUNNING])
    for one in found:
        place = (one["slot"], one["module"].partition(":")[0])
        newer, state, held = place in taken, one["state"], one["waits_for"]
        taken.add(place)
        because = f": {held}" if held else ""
        about, go, command = f"rollout {one['id']}", f"/rollouts/{one['id']}", f"edgefleet rollouts show {one['id']}"
        name = f"Rollout {one['id']} of {one['module']}"
        if state in _FAILED and not newer and now - one["created"] < _FAILED_S:
            says = f"{name} {_WORDS[state]}{because}"
            yield Item("rollout-failed", "bad", about, says, go, command, one["created"])
        elif state == State.REVERTING:
            yield Item("rollout-failed", "bad", about, f"{name} is being taken back{because}", go, command)
        elif state == State.PAUSED:
            yield Item("rollout-paused", "warn", about, f"{name} is paused{because}", go, command)
        elif int(one["id"]) in stopped:
            says = f"{name} goes no further on {', '.join(stopped[int(one['id'])])}: too many devices failed"
            yield Item("rollout-stopped", "bad", about, says, go, command)
        elif state == State.RUNNING and "approval" in held:
            approve = f"edgefleet rollouts approve {one['id']}"
            says = f"{name} waits for approval: {held.rpartition(': ')[2]}"
            yield Item("rollout-waits", "warn", about, says, go, approve)


def _stopped(connection: Connection, running: Sequence[int]) -> dict[int, list[str]]:
    """The kinds of hardware that each was stopped for, while it goes on for others."""
    found: dict[int, list[str]] = {}
    chosen = select(stopped_kinds.c.rollout, stopped_kinds.c.hardware).where(stopped_kinds.c.rollout.in_(running))
    for row in connection.execute(chosen.order_by(stopped_kinds.c.hardware)) if running else ():
        found.setdefault(row.rollout, []).append(row.hardware)
    return found


_WORDS: Final = {
    State.FAILED: "failed",
    State.REVERTED: "failed, and was taken back",
    State.PARTIAL: "was stopped for some kinds of hardware",
}


def _degraded(connection: Connection, scope: Scope) -> Iterator[Item]:
    mine = LIVE & scope.live_devices() & (STATE == "degraded")
    if count := _count(connection, mine):
        named = connection.scalars(select(devices.c.id).where(mine).order_by(devices.c.id).limit(_NAMED)).all()
        one, several = "has a module that will not stay up; it is", "have modules that will not stay up; they are"
        says = f"{_named(named, count)} {one if count == 1 else several} started again and again"
        go = f"/devices/{named[0]}" if count == 1 else "/devices?state=degraded"
        command = f"edgefleet devices show {named[0]}" if count == 1 else "edgefleet devices list --state degraded"
        yield Item("degraded", "bad", "modules", says, go, command)


def _offline(connection: Connection, now: float, scope: Scope) -> Iterator[Item]:
    # Who was never here has only just joined.
    seen = devices.c.last_seen
    mine = LIVE & scope.live_devices() & (STATE == "offline") & (seen < now - DAY_S)
    if count := _count(connection, mine):
        rows = connection.execute(select(devices.c.id, seen).where(mine).order_by(seen).limit(_NAMED)).all()
        who = _named([row.id for row in rows], count)
        says = f"{who} {'has' if count == 1 else 'have'} been offline for more than a day"
        go = f"/devices/{rows[0].id}" if count == 1 else "/devices?state=offline&sort=last_seen"
        command = "edgefleet devices list --state offline --sort last_seen"
        yield Item("offline", "warn", "devices", says, go, command, rows[0].last_seen)


def _targets(connection: Connection) -> Iterator[Item]:
    rows = connection.execute(select(targets.c.name, targets.c.trouble).where(targets.c.trouble != ""))
    for row in rows.fetchmany(_NEWEST):
        says = f"Target {row.name} cannot be reached: {row.trouble[:300]}"
        yield Item("target-trouble", "bad", f"target {row.name}", says, "/endpoints", "edgefleet targets list")


def _count(connection: Connection, mine: Any) -> int:
    return connection.execute(select(func.count()).select_from(devices).where(mine)).scalar_one()


def _named(named: Sequence[str], count: int) -> str:
    if count <= _NAMED:
        return " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return f"{count} devices ({', '.join(named)} …)"
