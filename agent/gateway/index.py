"""What the gateway says of its slots: who answers for each, tried, and what it has counted."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from agent import module_socket
from agent.gateway.choice import choose
from agent.gateway.counts import Counts
from agent.gateway.each import told
from agent.gateway.losses import Losses
from agent.gateway.pools import Peer
from modules.protocol.routing import Fallback, Route, Upstream, Version

_LISTENS_WITHIN_S: Final = 1.0


def instances(route: Route) -> list[str]:
    """The names of all that runs for a slot."""
    here = (route.current, route.previous, *(one for version in route.versions for one in version.replicas))
    return [one.instance for one in here if one is not None]


async def described(
    slot: str, route: Route, losses: Losses, counts: Counts, users: Callable[[Peer], int], *, each: bool = False
) -> dict[str, Any]:
    """Who answers for a slot; a socket that nobody listens at is not named. ``each`` asks every replica, too."""
    silent: set[Peer] = set()
    while (choice := choose(route, silent)) is not None and isinstance(choice.peer, Upstream):
        if await _listens(choice.peer):
            break
        silent.add(choice.peer)
    here = instances(route)
    lost, counted = losses.among(here), counts.among(here)
    peer = choice.peer if choice else None
    in_flight = sum(users(one) for one in (route.current, route.previous, route.fallback) if one is not None)
    return {
        "slot": slot,
        "module": peer.module if peer else None,
        "provider": None if peer is None or isinstance(peer, Fallback) else peer.provider,
        "served_by": choice.served_by if choice else None,
        "held": route.hold,
        **({"versions": [_version(one, users) for one in route.versions]} if route.versions else {}),
        # For the agent: a module that dies of what clients send is not to blame for it alone.
        **({"lost": lost} if lost else {}),
        # And what they saw of each instance, by its name.
        **({"counts": counted} if counted else {}),
        **({"each": {one.name: await told(one) for one in route.versions if one.each}} if each else {}),
        # What they wait for now, so that the agent knows when nobody does.
        **({"in_flight": in_flight} if in_flight else {}),
    }


def _version(version: Version, users: Callable[[Peer], int]) -> dict[str, Any]:
    return {
        "name": version.name,
        "weight": version.weight,
        "in_flight": {one.instance: users(one) for one in version.replicas},
    }


async def _listens(upstream: Upstream) -> bool:
    try:
        async with asyncio.timeout(_LISTENS_WITHIN_S):
            connection = await module_socket.connect(upstream.socket)
    except OSError:  # TimeoutError is one, too
        return False
    connection.close()
    return True
