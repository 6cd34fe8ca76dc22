"""What the gateway is told: rows in, routing table out. Pure."""

from pathlib import Path

from agent.identity import CERTIFICATE, KEY
from agent.slots import Placed, Slot
from modules.digests import sha256
from modules.protocol.order import Cloud
from modules.protocol.phases import Phase
from modules.protocol.routing import Fallback, Overload, Route, Table, Upstream


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


def elsewhere(slot: Slot) -> Cloud | None:
    """The cloud endpoint of the module that serves, else of the one that was ordered."""
    return (slot.serving or slot.target).routing.elsewhere


def authorities_file(cloud: Cloud) -> str:
    """The name of the file with the authorities of an endpoint; another name with other ones."""
    return f"cloud-{sha256(cloud.ca.encode()).removeprefix('sha256:')[:16]}.pem"


def token_file(slot: Slot, version: int) -> str:
    """The name of the file with what lets the device in; another name with each version."""
    return f"cloud-{slot.slot}-{version}.token"


def _fallback(slot: Slot, identity: Path) -> Fallback | None:
    """The cloud endpoint as the gateway is told of it, by the device's own certificate or its token."""
    cloud = elsewhere(slot)
    if cloud is None:
        return None
    here = slot.serving is not None or slot.phase is not Phase.REJECTED
    stands_in = ("unhealthy" if here else "unplaceable") in cloud.when
    relieves = slot.serving is not None and "overloaded" in cloud.when
    if not (stands_in or relieves or cloud.closed):
        return None
    return Fallback(
        url=cloud.url,
        ca=str(identity / authorities_file(cloud)) if cloud.ca else None,
        cert=None if cloud.token else str(identity / CERTIFICATE),
        key=None if cloud.token else str(identity / KEY),
        token=str(identity / token_file(slot, cloud.token.version)) if cloud.token else None,
        module=(slot.serving or slot.target).wanted.module,
        stands_in=stands_in,
        overload=Overload(waiting=cloud.waiting, latency_ms=cloud.latency_ms) if relieves else None,
        requests_a_day=cloud.requests_a_day,
        closed=cloud.closed,
    )
