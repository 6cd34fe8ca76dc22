"""The fleet at a glance, and what in it needs somebody: one document, for the console and ``edgefleet overview``."""

import threading
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, func, select, true

from fleet import metadata_files, pending, running
from fleet.attention import Item, Server, Sight, items
from fleet.clock import Clock
from fleet.db import Database
from fleet.device_list import counts
from fleet.people.scope import Scope
from fleet.rollouts import phases, view
from fleet.rollouts.phases import Standing, State
from fleet.tables import devices, events, joins, members, modules, rollouts, telemetry
from fleet.telemetry.view import read
from modules.protocol.telemetry import GATEWAY
from modules.trust import roles

# How long one answer is good for everybody who may see the same.
KEPT_S: Final = 2.0
_SCOPES: Final = 50
_OPEN: Final = (State.SCHEDULED, State.RUNNING, State.PAUSED, State.REVERTING)
ROLLOUTS: Final = 10
MODULES: Final = 20
EVENTS: Final = 10
_SOUGHT: Final = 10_000
# What the gateways of so many devices said last is added up, as far as it is this new.
_GATEWAYS: Final = 2000
_NEW_S: Final = 3600.0
# Events that say that somebody may mean harm.
SECURITY: Final = (
    *("forged-message", "bad-message", "cloned-identity", "went-back", "device-refused", "removed-device"),
    *("revoked-device", "request-denied", "login-refused", "people-refused", "enrolment-refused", "renewal-refused"),
    *("enrolment-rejected", "metadata-refused", "blob-withheld"),
)


class Overviews:
    """Made anew when somebody asks and the last is too old; used from any thread."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[Sight, bool], tuple[float, dict[str, Any]]] = {}

    def of(self, sight: Sight, server: Callable[[], Server], *, whole: bool) -> dict[str, Any]:
        """For whoever sees so much; ``whole``: the server's own troubles, too."""
        with self._lock:  # whoever asks for the same meanwhile gets the same
            now = self._clock()
            at, found = self._kept.get((sight, whole), (0.0, {}))
            if not 0 <= now - at < KEPT_S:
                with self._database.read() as connection:
                    found = overview(connection, now, sight, server())
                if len(self._kept) >= _SCOPES:
                    self._kept.clear()
                self._kept[sight, whole] = (now, found)
            return found


def overview(connection: Connection, now: float, sight: Sight, server: Server) -> dict[str, Any]:
    """All of it. Bounded: newest rollouts, most used modules, newest events."""
    states = {"online": 0, "updating": 0, "degraded": 0, "offline": 0, "revoked": 0}
    states |= counts(connection, sight.devices)
    waiting = len(pending.view_all(connection, now, sight.joins)) if sight.joins.areas else 0
    needs: list[Item] = items(connection, now, sight, server, waiting=waiting)
    return {
        "at": now,
        "devices": states | {"waiting": waiting, "all": sum(states.values())},
        "rollouts": _rollouts(connection, sight),
        "modules": running.counted(connection, sight.rollouts, most=MODULES) if sight.rollouts.areas else [],
        "answered": _answered(connection, now, sight.devices),
        "events": _events(connection, sight.events),
        "attention": [one._asdict() for one in needs],
        "steps": _steps(connection, sight),
    }


def _rollouts(connection: Connection, sight: Sight) -> list[dict[str, Any]]:
    """The open ones, the newest first, with their waves."""
    if not sight.rollouts.areas:
        return []
    mine = rollouts.c.state.in_(_OPEN) & sight.rollouts.some_rollouts()
    ids = connection.scalars(select(rollouts.c.id).where(mine).order_by(rollouts.c.id.desc()).limit(ROLLOUTS)).all()
    if not ids:
        return []
    shown = view.some(connection, sight.rollouts, before=ids[0] + 1, limit=ids[0] - ids[-1] + 1)
    return [
        one | {"counts_by_wave": _waves(connection, int(one["id"]), one["module"], sight.rollouts)}
        for one in shown
        if int(one["id"]) in set(ids)
    ]


def _waves(connection: Connection, rollout: int, module: str, scope: Scope) -> list[dict[str, Any]]:
    theirs = scope.of_team(module.partition("/")[0]).of_device(members.c.device)
    chosen = select(members.c.wave, members.c.standing, members.c.current, func.count().label("devices"))
    grouped = chosen.where(members.c.rollout == rollout, theirs)
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(grouped.group_by(members.c.wave, members.c.standing, members.c.current)):
        lost = not row.current and row.standing in phases.COUNTED - {Standing.FAILED}
        counted, name = found.setdefault(row.wave, {}), "superseded" if lost else str(row.standing)
        counted[name] = counted.get(name, 0) + row.devices
    return [{"wave": wave, "counts": counted} for wave, counted in sorted(found.items())]


def _answered(connection: Connection, now: float, scope: Scope) -> dict[str, Any] | None:
    """Requests as gateways counted them last: by modules, by the cloud, by nobody. None: none said anything new."""
    mine = (telemetry.c.stream == GATEWAY) & (telemetry.c.received > now - _NEW_S) & scope.of_device(telemetry.c.device)
    found = {"devices": 0, "module": 0.0, "cloud": 0.0, "nobody": 0.0}
    for document in connection.scalars(select(telemetry.c.document).where(mine).limit(_GATEWAYS)):
        found["devices"] += 1
        for sample in read(document).samples:
            for name, figure in (("module", "requests"), ("cloud", "fallback"), ("nobody", "unanswered")):
                found[name] += sample.figures.get(figure, 0.0)
    return found if found["devices"] else None


def _events(connection: Connection, scope: Scope) -> list[dict[str, Any]]:
    """Signs of harm among the newest: sought through all that is kept, a rare one would take long."""
    if not scope.areas:
        return []
    mine = true() if scope.unlimited else events.c.device.is_not(None) & scope.of_device(events.c.device)
    new = events.c.id > (connection.scalar(select(func.max(events.c.id))) or 0) - _SOUGHT
    asked = select(events.c.at, events.c.kind, events.c.device, events.c.message)
    rows = connection.execute(
        asked.where(mine, new, events.c.kind.in_(SECURITY)).order_by(events.c.id.desc()).limit(EVENTS)
    )
    return [{"at": row.at, "kind": row.kind, "device": row.device, "message": row.message} for row in rows]


def _steps(connection: Connection, sight: Sight) -> dict[str, bool]:
    """What a new server has seen already, for whoever sees the whole fleet; of others nothing is said."""
    if not sight.devices.unlimited:
        return {}

    def some(column: Any) -> bool:
        return connection.execute(select(column).limit(1)).first() is not None

    return {
        "keys": metadata_files.read(connection, roles.ROOT) is not None,
        "module": some(modules.c.id),
        "join": some(joins.c.id),
        "device": some(devices.c.id),
        "rollout": some(rollouts.c.id),
    }
