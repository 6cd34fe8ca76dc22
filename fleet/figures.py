"""The fleet as figures for Prometheus, read from the database when they are asked for. Series are bounded, always."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from fleet import endings
from fleet.command_tables import commands
from fleet.commands import states
from fleet.devices import LIVE
from fleet.folder import Folder
from fleet.people.scope import EVERYTHING, Scope
from fleet.rollouts.phases import Standing, State
from fleet.tables import devices, members, rollouts
from fleet.tables import telemetry as newest_rows
from fleet.telemetry.view import newest as newest_telemetry

# Series by agent version, by open rollout, and by device where they are asked for; what is beyond is counted in one.
VERSIONS: Final = 20
ROLLOUTS: Final = 50
DEVICES: Final = 1000
FIGURES: Final = 20_000
DAY_S: Final = 86400
_OPEN: Final = (State.SCHEDULED, State.RUNNING, State.PAUSED, State.REVERTING)
# The worst of a device's slots counts for it.
_HEALTHS: Final = ("none", "up", "other", "restarting", "degraded")
_TOGETHER: Final = 500


class _Current(msgspec.Struct):
    state: str
    restarts: int = 0


class _Serving(msgspec.Struct):
    module: str


class _Slot(msgspec.Struct):
    slot: str
    current: _Current | None = None
    serving: _Serving | None = None


class _Said(msgspec.Struct):
    """As much of a report as is counted here: of ten thousand devices, the rest would take a second."""

    agent: str
    slots: tuple[_Slot, ...] = ()


def fleet(connection: Connection, now: float, scope: Scope = EVERYTHING) -> list[Metric]:
    """Devices, rollouts, orders and commands; some ten families, whatever the size of the fleet."""
    whole = (*_devices(connection, now, scope), *_rollouts(connection, scope))
    return [*whole, _waiting(connection, scope), _commands(connection, scope)]


def ends(connection: Connection, now: float, folder: Folder, scope: Scope = EVERYTHING) -> list[Metric]:
    """Seconds until something ends, and how many devices' certificates end within which time."""
    left = GaugeMetricFamily(
        "edgefleet_ends_in_seconds",
        "until a certificate, list or trust metadata ends; of the devices' certificates the next one",
        labels=["what"],
    )
    for one in endings.found(connection, folder, now, scope):
        left.add_metric([one.name], one.ends - now)
    within = endings.buckets(connection, now, scope)
    return [left, _by("edgefleet_device_certificates", "by the time within which they end", "within", within.items())]


def each(connection: Connection, chosen: Sequence[str] | None, scope: Scope = EVERYTHING) -> list[Metric]:
    """Series of single devices: of those that are named, else of the first ``DEVICES``."""
    online = GaugeMetricFamily("edgefleet_device_online", "whether the device has a session", labels=["device"])
    seen = GaugeMetricFamily("edgefleet_device_last_seen_seconds", "Unix time of its last sign", labels=["device"])
    up = GaugeMetricFamily(
        "edgefleet_device_slot_up", "whether the slot's committed module is up", labels=["device", "slot", "module"]
    )
    restarts = GaugeMetricFamily(
        "edgefleet_device_slot_restarts", "of the module since it was last steady", labels=["device", "slot"]
    )
    hidden = GaugeMetricFamily("edgefleet_devices_not_shown", "devices beyond those that are shown alone")
    live = LIVE & scope.live_devices()
    where = live if chosen is None else live & devices.c.id.in_(chosen)
    wanted = select(devices.c.id, devices.c.online, devices.c.last_seen, devices.c.report).where(where)
    for row in connection.execute(wanted.order_by(devices.c.id).limit(DEVICES)):
        online.add_metric([row.id], int(row.online))
        if row.last_seen is not None:
            seen.add_metric([row.id], row.last_seen)
        said = msgspec.json.decode(row.report, type=_Said) if row.report else None
        for slot in {one.slot: one for one in said.slots}.values() if said else ():
            module = slot.serving.module if slot.serving else ""
            well = slot.current is not None and slot.current.state == "up"
            up.add_metric([row.id, slot.slot, module], int(well))
            restarts.add_metric([row.id, slot.slot], slot.current.restarts if slot.current else 0)
    if chosen is None:
        every = connection.execute(select(func.count()).select_from(devices).where(live)).scalar_one()
        hidden.add_metric([], max(every - DEVICES, 0))
    return [online, seen, up, restarts, hidden]


def telemetry(connection: Connection, chosen: Sequence[str] | None, scope: Scope = EVERYTHING) -> list[Metric]:
    """The newest figures of single devices, as far as there are series for them; of all devices without ``chosen``."""
    found = GaugeMetricFamily(
        "edgefleet_device_figure",
        "the newest figure that the device measured",
        labels=["device", "stream", "slot", "figure"],
    )
    hidden = GaugeMetricFamily("edgefleet_device_figures_not_shown", "figures beyond those that are shown")
    live = LIVE & scope.live_devices()
    some = select(devices.c.id).where(live if chosen is None else live & devices.c.id.in_(chosen))
    mine = some.order_by(devices.c.id).limit(DEVICES)
    series = 0
    for one in newest_telemetry(connection, newest_rows.c.device.in_(mine)):
        for slot, sample in one.samples.items():
            for name, value in sample.figures.items():
                series += 1
                if series <= FIGURES:
                    found.add_metric([one.device, one.stream, slot or "", name], value)
    hidden.add_metric([], max(series - FIGURES, 0))
    return [found, hidden]


def _devices(connection: Connection, now: float, scope: Scope) -> Iterator[Metric]:
    online: Counter[bool] = Counter()
    healths: Counter[str] = Counter(dict.fromkeys(_HEALTHS, 0))
    agents: Counter[str] = Counter()
    silent = 0
    wanted = select(devices.c.online, devices.c.last_seen, devices.c.report).where(LIVE, scope.live_devices())
    for row in connection.execute(wanted.execution_options(yield_per=_TOGETHER)):
        said = msgspec.json.decode(row.report, type=_Said) if row.report else _Said("unknown")
        online[bool(row.online)] += 1
        silent += now - (row.last_seen or 0.0) >= DAY_S
        healths[_health(said)] += 1
        agents[said.agent] += 1
    found = GaugeMetricFamily("edgefleet_devices", "devices by whether they have a session", labels=["online"])
    for word, value in (("true", True), ("false", False)):
        found.add_metric([word], online[value])
    yield found
    yield single("edgefleet_devices_silent", "devices that were not heard of for a day", silent)
    yield _by("edgefleet_devices_by_health", "devices by the worst of their modules", "health", healths.items())
    shown: Counter[str] = Counter({"other": 0})  # a version may be called so, too: no series comes twice
    for place, (version, count) in enumerate(agents.most_common()):
        shown[version if place < VERSIONS else "other"] += count
    yield _by("edgefleet_devices_by_agent", "devices by version of the agent", "version", shown.items())


def _health(said: _Said) -> str:
    worst = 0
    for slot in said.slots:
        if slot.current is not None:
            word = slot.current.state if slot.current.state in _HEALTHS else "other"
            worst = max(worst, _HEALTHS.index(word))
    return _HEALTHS[worst]


def _rollouts(connection: Connection, scope: Scope) -> Iterator[Metric]:
    counted = select(rollouts.c.state, func.count()).where(scope.some_rollouts()).group_by(rollouts.c.state)
    states: dict[str, int] = dict.fromkeys(map(str, State), 0)
    states |= {str(state): count for state, count in connection.execute(counted)}
    yield _by("edgefleet_rollouts", "rollouts by state", "state", states.items())
    found = GaugeMetricFamily(
        "edgefleet_rollout_devices",
        "devices of the newest open rollouts by where they stand",
        labels=["rollout", "module", "slot", "standing"],
    )
    newest = (
        select(rollouts.c.id, rollouts.c.module, rollouts.c.slot)
        .where(rollouts.c.state.in_(_OPEN), scope.some_rollouts())
        .order_by(rollouts.c.id.desc())
        .limit(ROLLOUTS)
    )
    for row in connection.execute(newest).all():
        mine = (members.c.rollout == row.id) & scope.some_members()
        standings = select(members.c.standing, func.count()).where(mine).group_by(members.c.standing)
        counts: dict[str, int] = dict.fromkeys(map(str, Standing), 0)
        counts |= {str(standing): count for standing, count in connection.execute(standings)}
        for standing, count in sorted(counts.items()):
            found.add_metric([str(row.id), row.module, row.slot, standing], count)
    yield found


def _waiting(connection: Connection, scope: Scope) -> Metric:
    waiting = (devices.c.order_counter > devices.c.order_published) & devices.c.order_envelope.is_not(None)
    counted = select(func.count()).select_from(devices).where(waiting, scope.live_devices())
    count = connection.execute(counted).scalar_one()
    return single("edgefleet_orders_waiting", "orders that the broker has not taken yet", count)


def _commands(connection: Connection, scope: Scope) -> Metric:
    """Of each name that was given, and names are of a closed list: every state, so that no series ends."""
    mine = scope.of_device(commands.c.device)
    counted = select(commands.c.name, commands.c.state, func.count()).where(mine)
    counts: Counter[tuple[str, str]] = Counter()
    for name, state, count in connection.execute(counted.group_by(commands.c.name, commands.c.state)):
        counts[name, state] = count
    found = GaugeMetricFamily(
        "edgefleet_commands", "commands to devices that are kept, by name and state", labels=["name", "state"]
    )
    for name in sorted({name for name, _ in counts}):
        for state in states.State:
            found.add_metric([name, state], counts[name, state])
    return found


def single(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)


def _by(name: str, about: str, label: str, counts: Iterable[tuple[Any, int]]) -> Metric:
    found = GaugeMetricFamily(name, about, labels=[label])
    for word, count in counts:
        found.add_metric([str(word)], count)
    return found
