"""Who is asked, in which order: the local module, its predecessor, the cloud; of an endpoint whoever has the turn."""

from collections.abc import Collection
from typing import NamedTuple

from agent.gateway.pools import Peer
from agent.gateway.shares import Asking
from modules.protocol.routing import Route


class Choice(NamedTuple):
    """One peer to ask, and the names under which the client is told of it: who serves, and the endpoint's version."""

    served_by: str
    peer: Peer
    version: str = ""


def choose(route: Route, silent: Collection[Peer]) -> Choice | None:
    """The next peer to ask on a device, given those that gave no answer. During a swap nothing local is asked."""
    local = (("local", route.current), ("previous", route.previous)) if not route.hold else ()
    cloud = route.fallback if route.fallback is not None and route.fallback.stands_in else None
    for served_by, peer in (*local, ("fallback", cloud)):
        if peer is not None and peer not in silent:
            return Choice(served_by, peer)
    return None


def next_choice(route: Route, silent: Collection[Peer], asking: Asking) -> Choice | None:
    """The next peer to ask, on a device or at an endpoint.

    Raises:
        web.HTTPError: 404, the client asked for a version that the endpoint does not have.
    """
    turn = asking.turn(route.versions, silent) if route.versions else None
    return choose(route, silent) if turn is None else Choice("local", turn.replica, turn.version)


def left_out(route: Route, asked: Collection[Peer], asking: Asking) -> bool:
    """Whether there are replicas for a request that ``asked`` nobody: then each of them gives no sign of life."""
    return not asked and next_choice(route, (), asking) is not None
