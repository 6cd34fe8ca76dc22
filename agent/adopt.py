"""What an accepted order changes in the device's memory: pure, rows in and rows out."""

import msgspec

from agent.slots import Placed, Routing, Slot, Target, Wanted, committed
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
        _work_towards(name, wanted_by(ordered), Routing(fallback=ordered.fallback), known.get(name), now, waived)
        for name, ordered in order.slots.items()
    ]
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
    name: Slug, wanted: Wanted, routing: Routing, before: Slot | None, now: float, waived: frozenset[Digest]
) -> Slot | None:
    target = Target(wanted=wanted, routing=routing, times=((str(Phase.ACCEPTED), now),))
    if before is None:
        return Slot(slot=name, target=target)
    again = wanted.digest in waived and before.phase in {Phase.REVERTED, Phase.REJECTED}
    if before.wanted == wanted and before.phase is not Phase.REMOVING and not again:
        return _rerouted(before, routing)
    if before.current is not None and before.current.wanted == wanted:
        # Ordered back to what is committed and still runs: there is nothing to do.
        row = before.with_(target=committed(before.current, ((str(Phase.COMMITTED), now),)))
        return _rerouted(row, routing) or row
    return before.with_(target=target)


def _rerouted(slot: Slot, routing: Routing) -> Slot | None:
    """Only where requests go besides the module has changed: nothing is started or proved again for that."""
    if slot.target.routing == routing:
        return None

    def same(placed: Placed | None) -> Placed | None:
        if placed is None or placed.wanted != slot.wanted:
            return placed
        return msgspec.structs.replace(placed, routing=routing)

    return slot.with_(routing=routing, candidate=same(slot.candidate), current=same(slot.current))
