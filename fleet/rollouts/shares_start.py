"""Starting a rollout on an endpoint: everything that can be refused is refused here, before anything changes."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict
from fleet.registry import Registry
from fleet.rollouts import control, four_eyes, history, shares
from fleet.rollouts import policy as policies
from fleet.rollouts.gates import OF_VERSIONS
from fleet.rollouts.model import AskedWave, Candidate, PlannedWave, Policy
from fleet.rollouts.phases import PLANNED, Standing, State
from fleet.rollouts.planner import plan
from fleet.rollouts.shares import Shift, shift_of
from fleet.rollouts.start import NOBODY, Starter, enter
from fleet.tables import rollouts
from fleet.target_tables import endpoints
from fleet.target_tables import shares as share_rows
from fleet.targets import shifting
from fleet.targets.endpoints import Endpoints
from fleet.targets.settings import ALL, MAX_VERSIONS, Wish
from fleet.targets.version_wish import VersionWish, version_of
from modules import canonical
from modules.errors import Invalid
from modules.names import DeviceId, ModuleRef, Slug, slug

# What a policy says of devices alone.
_OF_DEVICES: Final = ("concurrency", "budget", "windows", "late_joiners")


class ShiftWish(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks for. ``version`` is its name at the endpoint; empty: v and its number.

    ``supersede``: an open rollout of the endpoint ends for it.
    """

    module: ModuleRef
    endpoint: str
    version: Slug | None = None
    replicas: int = 0
    supersede: bool = False
    policy: Policy = Policy()


class ShiftPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollout would do: the waves, and the percent of the requests that each one brings the new version to."""

    shift: Shift
    asked: tuple[AskedWave, ...]
    percents: tuple[int, ...]
    starts: float | None


def prepare(
    connection: Connection,
    now: float,
    registry: Registry,
    wish: ShiftWish,
    scope: Scope = EVERYTHING,
    *,
    needs_another: bool = False,
) -> ShiftPlan:
    """Check a wish and plan it; writes nothing. ``needs_another``: the setting ``four_eyes`` is on.

    Raises:
        Missing: no such module or endpoint.
        Conflict: the module is a draft or is served already, an open rollout decides about the endpoint, or its
            requests are shared out between versions.
        Invalid: the policy does not hold here, or the endpoint cannot have this version.
    """
    row = Endpoints.row(connection, wish.endpoint)
    element = f"endpoint {row.name}"
    if row.state == shifting.REMOVING:
        raise Conflict("this endpoint is being removed", element=element)
    if wish.module.team != row.team:
        raise Invalid(f"it serves modules of team {row.team}", element=str(wish.module), remedy="make another endpoint")
    if not wish.supersede:
        _check_open(connection, row)
    before = _without_leftovers(connection, row)
    name = wish.version or slug(f"v{wish.module.version}".replace(".", "-"), what="version")
    default = before.versions[before.default]
    asked = VersionWish(wish.module, 0, wish.replicas or default.replicas)
    version = version_of(registry, connection, name, asked, scope)
    _check_beside(row.name, before, name, version.digest)
    check_policy(wish.policy)
    was = msgspec.structs.replace(default, weight=0)
    waves = plan(_hundred(), wish.policy)
    if needs_another:
        waves = four_eyes.gated(waves)
    return ShiftPlan(
        shift=Shift(name=name, version=version, before=before.default, was=was),
        asked=tuple(one.asked for one in waves),
        percents=_percents(waves),
        starts=policies.starts(wish.policy, now),
    )


def start(
    connection: Connection,
    now: float,
    registry: Registry,
    wish: ShiftWish,
    starter: Starter = NOBODY,
    scope: Scope = EVERYTHING,
    *,
    needs_another: bool = False,
) -> int:
    """Enter a rollout; returns its number. The engine opens its waves and gives the shares.

    From now on the endpoint's versions are decided by it alone.

    Raises:
        Missing, Conflict, Invalid: as :func:`prepare`.
        Forbidden: another person has to approve it, and nobody knows which operator starts it.
    """
    if needs_another:
        four_eyes.check_starter(starter.operator, str(wish.module))
    planned = prepare(connection, now, registry, wish, scope, needs_another=needs_another)
    row = Endpoints.row(connection, wish.endpoint)
    given: dict[str, Any] = {
        "slot": "",
        "document": canonical.encode(planned.shift),
        "waive": False,
        "misfits": [],
        "endpoint": row.name,
    }
    rollout = enter(connection, now, wish.module, planned.asked, wish.policy, planned.starts, starter, **given)
    each = [
        {"rollout": rollout, "wave": wave, "percent": percent, "standing": Standing.PLANNED, "phase": PLANNED}
        for wave, percent in enumerate(planned.percents, start=1)
    ]
    connection.execute(insert(share_rows), each)
    _take_over(connection, now, row, rollout)
    shown = ", ".join(f"{one} %" for one in planned.percents)
    begun = "scheduled" if planned.starts is not None and planned.starts > now else "started"
    shift = planned.shift
    what = f"{begun}: requests of endpoint {row.name} go from {shift.before} to {shift.name} by {shown}"
    history.add(connection, now, rollout, what + (four_eyes.WAITS if needs_another else ""), by=starter.name)
    return rollout


def check_policy(policy: Policy) -> None:
    """Whether a policy means something for an endpoint.

    Raises:
        Invalid: it says something of devices, or has a gate on what is not measured there.
    """
    plain = Policy()
    said = [name for name in _OF_DEVICES if getattr(policy, name) != getattr(plain, name)]
    if said or any(wave.label is not None for wave in policy.waves):
        raise Invalid(
            "it says something of devices, and an endpoint's waves are shares of its requests",
            element=f"policy.{said[0] if said else 'waves, label'}",
            remedy="leave it out; write waves by percent",
        )
    for number, gate in enumerate(policy.gates, start=1):
        if gate.measure not in OF_VERSIONS and gate.missing == "wait":
            raise Invalid(
                f"{gate.measure} is not measured on endpoints",
                element=f"policy.gates, gate {number}",
                remedy=f"leave it out; it measures {', '.join(sorted(OF_VERSIONS))}",
            )


def _hundred() -> list[Candidate]:
    """The requests as the planner takes them: each percent of them is a member."""
    return [Candidate(DeviceId(f"{number:03}"), {}) for number in range(ALL)]


def _percents(waves: tuple[PlannedWave, ...]) -> tuple[int, ...]:
    found, total = [], 0
    for wave in waves:
        total += len(wave.devices)
        found.append(total)
    return tuple(found)


def _check_open(connection: Connection, row: Any) -> None:
    if (held := shifting.holder(connection, row)) is not None:
        raise Conflict(
            f"rollout {held.id} of {held.module} is open and shares its requests out",
            element=f"endpoint {row.name}",
            remedy="wait for its end, cancel it, or say --supersede to end it",
        )


def _check_beside(endpoint: str, before: Wish, name: Slug, digest: str) -> None:
    """Whether a version can stand beside those that are there, and take all requests from one alone."""
    element = f"endpoint {endpoint}"
    if before.versions[before.default].digest == digest:
        raise Conflict("its default version serves this very module", element=element)
    if name in before.versions:
        raise Conflict(
            f"it has a version {name} already",
            element=element,
            remedy=f"call the new one otherwise (--as), or run: edgefleet endpoints version {endpoint} {name} --remove",
        )
    if len(before.versions) >= MAX_VERSIONS:
        raise Invalid(f"it has {len(before.versions)} versions already", element=element, remedy="remove some")
    if shared := [one for one in before.versions if one != before.default and before.versions[one].weight]:
        raise Conflict(
            f"its requests are shared out: {shifting.told(before)}",
            element=element,
            remedy=f"run: edgefleet endpoints split {endpoint} {' '.join(f'{one}=0' for one in shared)}",
        )


def _without_leftovers(connection: Connection, row: Any) -> Wish:
    """The endpoint's wish without what the rollout before has left beside its default version."""
    wish = shifting.wish_of(row)
    held = None if row.rollout is None else _row(connection, row.rollout)
    if held is None:
        return wish
    shift, versions = shift_of(held), dict(wish.versions)
    for name in {shift.name, shift.before} - {wish.default}:
        versions.pop(name, None)
    return msgspec.structs.replace(wish, versions=versions)


def _take_over(connection: Connection, now: float, row: Any, rollout: int) -> None:
    """The endpoint's versions are this rollout's to decide about; an open one before it ends."""
    wish = _without_leftovers(connection, row)
    if (held := shifting.holder(connection, row)) is not None:
        before = control.get(connection, held.id)
        state = State.REVERTED if before.state == State.REVERTING else State.CANCELLED
        control.move(connection, now, held.id, state, f"rollout {rollout} decides about the endpoint now")
        shares.gone(connection, before, f"rollout {rollout} decides about it now")
    connection.execute(update(endpoints).where(endpoints.c.name == row.name).values(rollout=rollout))
    if wish != shifting.wish_of(row):
        shifting.put(connection, now, row, wish, rollout)


def _row(connection: Connection, rollout: int) -> Any:
    return connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
