"""What an accepted order changes in the device's memory: pure, rows in and rows out."""

import msgspec

from agent.slots import Placed, Slot, Wanted
from modules.names import Digest, ModuleRef, Slug
from modules.protocol.order import Order, SlotOrder
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
    changed = [
        _work_towards(name, wanted_by(ordered), known.get(name), now, waived) for name, ordered in order.slots.items()
    ]
    removed = [
        slot.to(Phase.REMOVING, now)
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
        fallback=ordered.fallback,
    )


def _work_towards(
    name: Slug, wanted: Wanted, before: Slot | None, now: float, waived: frozenset[Digest]
) -> Slot | None:
    if before is None:
        return Slot(slot=name, wanted=wanted, times=((str(Phase.ACCEPTED), now),))
    again = wanted.digest in waived and before.phase in {Phase.REVERTED, Phase.REJECTED}
    if before.phase is not Phase.REMOVING and not again and _but_fallback(before.wanted, wanted):
        # Only where requests go when nobody here answers has changed: nothing is started or proved again for that.
        return before.with_(
            wanted=wanted, candidate=_redirected(before.candidate, wanted), current=_redirected(before.current, wanted)
        )
    if before.wanted == wanted and before.phase is not Phase.REMOVING and not again:
        return None
    fresh = Slot(
        slot=name,
        wanted=wanted,
        times=((str(Phase.ACCEPTED), now),),
        current=before.current,
        previous=before.previous,
        restarts=before.restarts,
        restart_after=before.restart_after,
    )
    if before.current is not None and before.current.wanted == wanted:
        # Ordered back to what is committed and still runs: there is nothing to do.
        return fresh.with_(phase=Phase.COMMITTED, times=((str(Phase.COMMITTED), now),))
    return fresh


def _but_fallback(before: Wanted, after: Wanted) -> bool:
    return before != after and msgspec.structs.replace(before, fallback=after.fallback) == after


def _redirected(placed: Placed | None, wanted: Wanted) -> Placed | None:
    if placed is None or not _but_fallback(placed.wanted, wanted):
        return placed
    return msgspec.structs.replace(placed, wanted=wanted)
