"""Which version of an endpoint has its turn, and which of its replicas is asked."""

from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from aiohttp import web

from agent.gateway.refusals import refusal
from modules.protocol.routing import Replica, Version

_ALL: Final = 100


class Turn(NamedTuple):
    """A replica to ask, and the name of its version."""

    replica: Replica
    version: str


class Shares:
    """Deals the requests of one endpoint out to its versions, as exactly as whole requests can be.

    Smooth weighted round-robin, as nginx has it: each version gains its weight with every request, and the one that has
    gained most is asked and gives back the sum. So of any hundred requests in a row each version gets its percentage,
    and a version of ten percent gets one in ten and not ten in a row.
    """

    def __init__(self) -> None:
        self._gained: dict[str, int] = {}
        self._turn = 0

    def draw(self, versions: tuple[Version, ...]) -> str:
        """The version whose turn it is."""
        weights: dict[str, int] = {one.name: one.weight for one in versions}
        # What the weights leave over is the default's.
        weights[versions[0].name] += max(0, _ALL - sum(weights.values()))
        gained = {name: self._gained.get(name, 0) + weight for name, weight in weights.items()}
        drawn = max(gained, key=lambda name: gained[name])
        gained[drawn] -= sum(weights.values())
        self._gained = gained
        return drawn

    def least_busy(self, replicas: tuple[Replica, ...], users: Callable[[Replica], int]) -> list[Replica]:
        """The replica with the fewest requests in flight first; where several have as few, they take turns."""
        self._turn += 1
        count = len(replicas)
        ranked = sorted(range(count), key=lambda at: (users(replicas[at]), (at - self._turn) % count))
        return [replicas[at] for at in ranked]


class Asking:
    """Whom one request asks, however often it has to be sent.

    Args:
        shares: of its endpoint.
        users: how many requests a replica is working on.
        named: the version that the client asked for, and no other; empty: the one whose turn it is.
    """

    def __init__(self, shares: Shares, users: Callable[[Replica], int], named: str) -> None:
        self._shares, self._users, self._named = shares, users, named
        self._drawn = ""

    def turn(self, versions: tuple[Version, ...], silent: Collection[object]) -> Turn | None:
        """The best of those that were not found silent: the drawn version's replicas, the default's, then the others'.

        Args:
            versions: of the endpoint as they are now, the default first, and at least one.
            silent: peers that gave no answer to this request.

        Raises:
            web.HTTPError: 404, no version has the name that the client asked for.
        """
        for version in self._in_order(versions):
            for replica in self._shares.least_busy(version.replicas, self._users):
                if replica not in silent:
                    return Turn(replica, version.name)
        return None

    def _in_order(self, versions: tuple[Version, ...]) -> list[Version]:
        if self._named:
            found = [one for one in versions if one.name == self._named]
            if not found:
                known = ", ".join(one.name for one in versions)
                raise refusal(web.HTTPNotFound, f"no version {self._named[:63]!r} of this endpoint: it has {known}")
            return found
        self._drawn = self._drawn or self._shares.draw(versions)
        return [
            *(one for one in versions if one.name == self._drawn),
            *(one for one in versions if one.name != self._drawn and (one is versions[0] or one.weight)),
        ]
