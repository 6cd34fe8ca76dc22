"""What an accepted order changes in the device's memory: pure, rows in and rows out."""

from typing import Any

import msgspec

from agent.slots import Placed, Routing, Slot, Target, Wanted, Watched, committed
from modules.names import Digest, ModuleRef, Slug
from modules.protocol.order import Order, Secret, SlotOrder
from modules.protocol.phases import Phase


def adopt(
    order: Order, slots: tuple[Slot, ...], *, now: float, waived: frozenset[Digest] = frozenset()
) -> tuple[Slot, ...]:
    """The rows as the order wants them; a row that is not returned is unchanged.

    A slot that already works towards, or runs, what is ordered stays as it is, so receiving an order again is a no-op.
    Another module supersedes the one on its way: it starts over at *accepted*, while the committed one goes on. A slot
    that the order does not name goes to *removing*.
    """
    known = {slot.slot: slot for slot in slots}
    changed = [_work_towards(name, ordered, known.get(name), now, waived) for name, ordered in order.slots.items()]
    removed = [
        slot.to(Phase.REMOVING, now, by="order")
        for slot in slots
        if slot.slot not in order.slots and slot.phase is not Phase.REMOVING
    ]
    return tuple(slot for slot in (*changed, *removed) if slot is not None)


def wanted_by(ordered: SlotOrder) -> Wanted:
    return Wanted(
        module=str(ModuleRef.from_target(ordered.manifest)),
        digest=ordered.digest,
        engine=ordered.engine,
        settings=dict(ordered.settings),
    )


def _work_towards(
    name: Slug, ordered: SlotOrder, before: Slot | None, now: float, waived: frozenset[Digest]
) -> Slot | None:
    wanted, beside = wanted_by(ordered), _beside(ordered)
    target = Target(wanted=wanted, times=((str(Phase.ACCEPTED), now),), **beside)
    if before is None:
        return Slot(slot=name, target=target)
    again = wanted.digest in waived and before.phase in {Phase.REVERTED, Phase.REJECTED}
    if before.wanted == wanted and before.phase is not Phase.REMOVING and not again:
        return _adjusted(before, beside, now)
    if before.current is not None and before.current.wanted == wanted:
        # Ordered back to what is committed and still runs: there is nothing to do.
        row = before.with_(target=committed(before.current, ((str(Phase.COMMITTED), now),)))
        return _adjusted(row, beside, now) or row
    row = before.with_(target=target)
    return row.with_(**_resealed(row))


def _beside(ordered: SlotOrder) -> dict[str, Any]:
    """What an order says besides the module, by the target's names; it may change at any time."""
    return {
        "routing": Routing(fallback=ordered.fallback, cloud=ordered.cloud or None),
        "windows": ordered.windows or (),
        "secrets": ordered.secrets or {},
        "measure": ordered.measure or None,
    }


def _adjusted(slot: Slot, beside: dict[str, Any], now: float) -> Slot | None:
    """The module stays, and only what is said besides it has changed: nothing is fetched or proved again for that."""
    changed = {name: value for name, value in beside.items() if getattr(slot.target, name) != value}
    if not changed:
        return None
    if {"windows", "secrets"} & set(changed) and slot.phase is Phase.STARTING:
        # Its start has been broken off for this order, and may have to wait for another window.
        slot = slot.to(Phase.STAGED, now, attempts=slot.target.attempts, candidate=None)
    if "secrets" in changed:
        changed["not_before"] = 0.0  # it may have waited for this one
    if "measure" in changed:
        changed["watched"] = Watched(before=slot.target.watched.before if changed["measure"] else None)
    if routing := changed.get("routing"):
        changed |= {name: _rerouted(getattr(slot, name), slot, routing) for name in ("candidate", "current")}
    row = slot.with_(**changed)
    return row.with_(**_resealed(row)) if "secrets" in changed else row


def _resealed(slot: Slot) -> dict[str, Placed | None]:
    """What was started is to have the new versions, too; the one to go back to, of what it has."""
    secrets = slot.target.secrets
    found: dict[str, Placed | None] = {}
    for name in ("candidate", "current", "previous"):
        placed: Placed | None = getattr(slot, name)
        if placed is not None:
            mine = secrets if placed.wanted == slot.wanted else {**placed.secrets, **_newer(placed, slot.target)}
            found[name] = msgspec.structs.replace(placed, secrets=mine)
    return found


def _newer(placed: Placed, target: Target) -> dict[str, Secret]:
    return {name: one for name, one in target.secrets.items() if name in placed.secrets}


def _rerouted(placed: Placed | None, slot: Slot, routing: Routing) -> Placed | None:
    if placed is None or placed.wanted != slot.wanted:
        return placed
    return msgspec.structs.replace(placed, routing=routing)
