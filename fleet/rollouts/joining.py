"""Devices that join late: they enter the running or finished rollouts that take late joiners, as a last wave.

Whoever changes a device's labels or facts calls :func:`changed`; the engine looks at these devices, and at no others.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from fleet import devices, orders, revisions, sealed_secrets, selectors
from fleet.fallbacks.answering import Answering
from fleet.refusals import Missing
from fleet.registry import Registry
from fleet.rollouts import candidates, control, history, members
from fleet.rollouts.model import MAX_WAVES, AskedWave, Candidate, Policy, Wave
from fleet.rollouts.phases import State
from fleet.tables import members as rows
from fleet.tables import newcomers, rollout_columns, rollouts
from modules import canonical
from modules.errors import Invalid
from modules.names import DeviceId, ModuleRef
from modules.protocol.order import SlotOrder

Alone = Callable[[Connection, str, str], AbstractContextManager[None]]
RULE: Final = "late joiners"
# A rollout that was stopped, taken back or cancelled takes nobody in.
_OPEN: Final = (State.SCHEDULED, State.RUNNING, State.PAUSED, State.DONE, State.PARTIAL)


def changed(connection: Connection, device: DeviceId) -> None:
    """A device's labels or facts changed."""
    if connection.execute(select(newcomers).where(newcomers.c.device == device)).one_or_none() is None:
        connection.execute(insert(newcomers).values(device=device))


def some(connection: Connection, now: float, registry: Registry, alone: Alone, *, limit: int) -> bool:
    """Look at the next devices that changed; True if there may be more."""
    chosen = connection.scalars(select(newcomers.c.device).order_by(newcomers.c.device).limit(limit)).all()
    if not chosen:
        return False
    connection.execute(delete(newcomers).where(newcomers.c.device.in_(chosen)))
    wide = rollouts.c.late_joiners & rollouts.c.state.in_(_OPEN)
    taking = connection.execute(select(*rollout_columns).where(wide).order_by(rollouts.c.id.desc())).all()
    for device in chosen if taking else ():
        with alone(connection, "late joiner", device):
            _join(connection, now, registry, DeviceId(device), taking)
    return len(chosen) == limit


def _join(connection: Connection, now: float, registry: Registry, device: DeviceId, taking: Sequence[Row[Any]]) -> None:
    """Enter a device into the newest rollout of each slot that means it."""
    try:
        [found] = devices.chosen(connection, "*", [device])
    except Missing:
        return  # it was removed meanwhile
    done: set[str] = set()
    for rollout in taking:
        if rollout.slot in done or not selectors.parse(rollout.selector).matches(found[0].labels):
            continue
        mine = (rows.c.device == device) & (rows.c.slot == rollout.slot)
        held = mine & (rows.c.current | (rows.c.rollout >= rollout.id))
        if connection.execute(select(rows.c.rollout).where(held).limit(1)).first():
            done.add(rollout.slot)
            continue
        document = msgspec.json.decode(rollout.document, type=SlotOrder)
        manifest, _ = registry.signed(connection, ModuleRef.parse(rollout.module))
        gates = msgspec.json.decode(rollout.policy, type=Policy).gates
        replacing = revisions.with_another(connection, [device], rollout.slot, document.digest)
        lacking = sealed_secrets.lacking(connection, manifest, rollout.slot, [device])
        elsewhere = Answering(connection, document, manifest).for_device
        fitting, _ = candidates.sort(manifest, document.engine, [found], gates, replacing, lacking, elsewhere=elsewhere)
        if not fitting or fitting[0].hardware in members.stopped_for(connection, rollout.id):
            continue
        try:
            orders.check(connection, [device], rollout.slot, document, waive=rollout.waive)
        except Invalid as error:
            history.add(connection, now, rollout.id, f"{device} joined late and cannot take it: {error}")
            continue
        done.add(rollout.slot)
        _enter(connection, now, rollout, document, fitting[0])


def _enter(connection: Connection, now: float, rollout: Row[Any], document: SlotOrder, late: Candidate) -> None:
    policy = msgspec.json.decode(rollout.policy, type=Policy)
    plan = msgspec.json.decode(rollout.plan, type=list[AskedWave])
    mine = rollouts.c.id == rollout.id
    now_row = connection.execute(select(rollouts.c.wave, rollouts.c.waves, rollouts.c.state).where(mine)).one()
    waves = now_row.waves
    if now_row.wave == waves and plan[-1].rule != RULE and waves < MAX_WAVES:
        # The last wave is open already; they are judged apart from it.
        waves += 1
        plan.append(AskedWave(RULE, policy.of(Wave(percent=100.0, approval=False))))
    values: dict[str, Any] = {"waves": waves, "plan": canonical.encode(plan), "look_at": 0, "complete_since": None}
    connection.execute(update(rollouts).where(mine).values(**values))
    budget = policy.budget.label if policy.budget else None
    members.add(connection, rollout.id, rollout.slot, document.digest, [(waves, [late])], budget=budget)
    history.add(connection, now, rollout.id, f"{late.device} joined late, in wave {waves}")
    if now_row.state in {State.DONE, State.PARTIAL}:
        control.move(connection, now, rollout.id, State.RUNNING, "open again, a device joined late")
