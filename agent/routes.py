"""What the gateway is told: rows in, routing table out. Pure."""

from pathlib import Path

from agent.identity import CERTIFICATE, KEY
from agent.slots import Placed, Slot
from modules.protocol.phases import Phase
from modules.protocol.routing import Fallback, Route, Table, Upstream


def table(slots: tuple[Slot, ...], *, generation: int, identity: Path) -> Table:
    """The table for these rows.

    While a candidate is on probation it has the traffic, and the committed module stands behind it as ``previous``.
    """
    return Table(
        generation=generation,
        slots={slot.slot: _route(slot, identity) for slot in slots if slot.phase is not Phase.REMOVING},
    )


def _route(slot: Slot, identity: Path) -> Route:
    serving = slot.serving
    behind = slot.current if serving is not slot.current else None
    return Route(
        current=_upstream(serving),
        previous=_upstream(behind),
        fallback=_fallback(slot, identity),
    )


def _upstream(placed: Placed | None) -> Upstream | None:
    if placed is None:
        return None
    return Upstream(
        socket=placed.socket,
        module=placed.wanted.module,
        provider=placed.provider,
        instance=placed.instance,
        memory_mb=placed.memory_mb,
    )


def _fallback(slot: Slot, identity: Path) -> Fallback | None:
    """The cloud endpoint of the module that serves, else of the one that was ordered; the device's own certificate."""
    source = slot.serving or slot.target
    if source.routing.fallback is None:
        return None
    return Fallback(
        url=source.routing.fallback,
        cert=str(identity / CERTIFICATE),
        key=str(identity / KEY),
        module=source.wanted.module,
    )
