"""Starting a rollout: everything that can be refused is refused here, before any order exists."""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, insert, select

from fleet import devices, orders, revisions, sealed_secrets
from fleet.fallbacks.answering import Answering
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Conflict
from fleet.registry import Registry
from fleet.rollouts import candidates, four_eyes, history, measurable, members
from fleet.rollouts import policy as policies
from fleet.rollouts.candidates import Misfit
from fleet.rollouts.model import AskedWave, Candidate, PlannedWave, Policy, seconds
from fleet.rollouts.phases import Standing, State
from fleet.rollouts.planner import plan
from fleet.tables import members as member_rows
from fleet.tables import rollouts
from modules import canonical
from modules.adjustable import check_data, check_fallback, check_settings
from modules.errors import Invalid, Unfit
from modules.manifest import Manifest
from modules.names import DeviceId, Digest, ModuleRef, Slug
from modules.protocol.order import Cloud, SettingValue, SlotOrder

_OTHERS: Final = "select other devices, or change the module or the gates"
_SELECT: Final = "select devices that are there: edgefleet devices list"
_SHOWN: Final = 10
_TOGETHER: Final = 500
_OPEN: Final = (State.SCHEDULED, State.RUNNING, State.PAUSED, State.REVERTING)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks for.

    ``fallback`` is an address on the usual terms, ``cloud`` one with its own; ``alone``: nobody, ever. ``waive`` lets
    devices try content again that failed on them before; ``supersede`` takes devices from rollouts of this slot that
    are still open.
    """

    module: ModuleRef
    slot: Slug
    selector: str = "*"
    devices: tuple[DeviceId, ...] | None = None
    engine: Literal["docker", "process"] = "docker"
    settings: dict[str, SettingValue] = {}
    fallback: str | None = None
    cloud: Cloud | None = None
    alone: bool = False
    waive: bool = False
    supersede: bool = False
    policy: Policy = Policy()


class Starter(NamedTuple):
    """Who starts a rollout: as the history names them, and which operator that is; None: none that is known."""

    name: str = ""
    operator: int | None = None


NOBODY: Final = Starter()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollout would do: its waves, who does not fit, and what the order says of the slot."""

    manifest: Manifest
    document: SlotOrder
    waves: tuple[PlannedWave, ...]
    misfits: tuple[Misfit, ...]
    starts: float | None

    @property
    def devices(self) -> list[DeviceId]:
        return [one.device for wave in self.waves for one in wave.devices]


def prepare(
    connection: Connection,
    now: float,
    registry: Registry,
    wish: Wish,
    scope: Scope = EVERYTHING,
    *,
    needs_another: bool = False,
) -> Plan:
    """Check a wish and plan it; writes nothing. ``needs_another``: the setting ``four_eyes`` is on.

    A rollout outside the scope that is in its way is not named.

    Raises:
        Missing: no such module or device.
        Conflict: the module is a draft, or an open rollout fills this slot of one of the devices.
        Invalid: settings, fallback, selector or policy do not hold or can never be met, or a device's order would
            become too large.
        Unfit: no selected device fits; lists the reasons.
    """
    manifest, digest = registry.signed(connection, wish.module)
    document = _slot_order(wish, manifest, digest)
    starts = policies.starts(wish.policy, now)
    gates = wish.policy.gates
    if seconds(wish.policy.keep):
        raise Invalid(
            "only an endpoint keeps what was replaced beside the new one",
            element="policy.keep",
            remedy="leave it out: a device always has the module before at hand",
        )
    if any(gate.measure == "sample_percent" for gate in gates):
        measurable.check(gates, manifest, registry.samples(manifest))
    found = devices.chosen(connection, wish.selector, wish.devices)
    replacing = revisions.with_another(connection, [one.device for one, _ in found], wish.slot, digest)
    lacking = sealed_secrets.lacking(connection, manifest, wish.slot, [one.device for one, _ in found])
    elsewhere = Answering(connection, document, manifest).for_device
    fitting, misfits = candidates.sort(manifest, wish.engine, found, gates, replacing, lacking, elsewhere=elsewhere)
    if not fitting:
        element, remedy = (str(wish.module), _OTHERS) if misfits else ("selector", _SELECT)
        raise Unfit(_why_none(wish, misfits), element=element, remedy=remedy)
    _check_budget(wish.policy, fitting)
    waves = plan(fitting, wish.policy)
    if needs_another:
        waves = four_eyes.gated(waves)
    chosen = [one.device for one in fitting]
    if not wish.supersede:
        _check_open(connection, scope, chosen, wish.slot)
    orders.check(connection, chosen, wish.slot, document, waive=wish.waive)
    return Plan(manifest=manifest, document=document, waves=waves, misfits=tuple(misfits), starts=starts)


def start(
    connection: Connection,
    now: float,
    registry: Registry,
    wish: Wish,
    starter: Starter = NOBODY,
    scope: Scope = EVERYTHING,
    *,
    needs_another: bool = False,
) -> int:
    """Enter a rollout; returns its number. The engine opens its waves and issues the orders.

    From now on the slot of every device, in whichever wave, belongs to it: an older rollout takes none of them back.

    Raises:
        Missing, Conflict, Invalid, Unfit: as :func:`prepare`.
        Forbidden: another person has to approve it, and nobody knows which operator starts it.
    """
    if needs_another:
        four_eyes.check_starter(starter.operator, str(wish.module))
    planned = prepare(connection, now, registry, wish, scope, needs_another=needs_another)
    asked = [wave.asked for wave in planned.waves]
    scheduled = planned.starts is not None and planned.starts > now
    values: dict[str, Any] = {
        "slot": wish.slot,
        "document": canonical.encode(planned.document),
        "waive": wish.waive,
        "misfits": msgspec.to_builtins(planned.misfits),
        "selector": wish.selector,
        "late_joiners": wish.policy.late_joiners and wish.devices is None,
    }
    rollout = enter(connection, now, wish.module, asked, wish.policy, planned.starts, starter, **values)
    members.retire(connection, planned.devices, wish.slot, by=rollout)
    budget = wish.policy.budget.label if wish.policy.budget else None
    numbered = [(number, wave.devices) for number, wave in enumerate(planned.waves, start=1)]
    members.add(connection, rollout, wish.slot, planned.document.digest, numbered, budget=budget)
    devices_, waves = _some(planned.devices, "device"), _some(asked, "wave")
    what = f"{'scheduled' if scheduled else 'started'}: {devices_} in {waves}, {_some(planned.misfits, 'misfit')}"
    history.add(connection, now, rollout, what + (four_eyes.WAITS if needs_another else ""), by=starter.name)
    return rollout


def enter(
    connection: Connection, now: float, module: ModuleRef, asked: Sequence[AskedWave], policy: Policy,
    starts: float | None, starter: Starter, **values: Any,
) -> int:  # fmt: skip
    """Enter the row of a rollout, of whatever members; returns its number."""
    scheduled = starts is not None and starts > now
    values |= {
        "module": str(module),
        "state": State.SCHEDULED if scheduled else State.RUNNING,
        "wave": 0 if scheduled or asked[0].threshold.approval else 1,
        "waves": len(asked),
        "plan": canonical.encode(asked),
        "policy": canonical.encode(policy),
        "created": now,
        "started_by": starter.name,
        "starter": starter.operator,
        "starts": starts,
        "deadline_s": float(seconds(policy.deadline)),
        "look_at": 0.0,
    }
    return int(connection.execute(insert(rollouts).values(**values).returning(rollouts.c.id)).scalar_one())


def _check_open(connection: Connection, scope: Scope, chosen: Sequence[DeviceId], slot: Slug) -> None:
    """Whether an open rollout fills this slot of one of these devices."""
    seen = scope.some_rollouts().label("seen")
    held = select(member_rows.c.rollout, member_rows.c.device, rollouts.c.module, seen).join(rollouts)
    # What goes back is no current member any more, and is under way all the same.
    back = member_rows.c.standing.in_((Standing.RECALLED, Standing.RETURNING))
    mine = (member_rows.c.slot == slot) & (member_rows.c.current | back) & rollouts.c.state.in_(_OPEN)
    for begin in range(0, len(chosen), _TOGETHER):
        some = member_rows.c.device.in_(chosen[begin : begin + _TOGETHER])
        row = connection.execute(held.where(mine, some).order_by(member_rows.c.rollout).limit(1)).first()
        if row is not None:
            if not row.seen:
                raise Conflict(
                    f"a rollout outside of what your rights are for is open and fills this slot of {row.device}",
                    element=f"slot {slot}",
                    remedy="wait for its end, or say --supersede to take the devices from it",
                )
            raise Conflict(
                f"rollout {row.rollout} of {row.module} is open and fills this slot of {row.device}",
                element=f"slot {slot}",
                remedy="wait for its end, cancel it, or say --supersede to take the devices from it",
            )


def _slot_order(wish: Wish, manifest: Manifest, digest: Digest) -> SlotOrder:
    check_settings(manifest, wish.settings)
    document = SlotOrder(
        manifest=wish.module.target,
        digest=digest,
        engine=wish.engine,
        settings=wish.settings,
        fallback=wish.fallback,
        windows=wish.policy.windows or msgspec.UNSET,
        measure=wish.policy.measure or msgspec.UNSET,
        cloud=wish.cloud or msgspec.UNSET,
        alone=wish.alone or msgspec.UNSET,
    )
    cloud = document.elsewhere
    check_data(manifest, cloud.region if cloud else None)
    check_fallback(cloud.url if cloud else None, manifest.fallback_hosts)
    return document


def _some(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}" + ("" if len(things) == 1 else "s")


def _check_budget(policy: Policy, fitting: Sequence[Candidate]) -> None:
    """Whether anybody has the label of the budget: without it they all would be one place, and go one by one."""
    if policy.budget is not None and not any(policy.budget.label in one.labels for one in fitting):
        raise Invalid(
            f"none of the {_some(fitting, 'device')} has a label {policy.budget.label!r}",
            element="policy.budget.label",
            remedy="name a label that they have (edgefleet devices list), or limit them all by concurrency",
        )


def _why_none(wish: Wish, misfits: Sequence[Misfit]) -> str:
    if not misfits:
        return f"{wish.selector!r} matches no device" if wish.devices is None else "no device is named"
    shown = "; ".join(f"{one.device}: {', '.join(one.reasons)}" for one in misfits[:_SHOWN])
    return f"none of {len(misfits)} devices fits: {shown}"
