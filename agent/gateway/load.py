"""Whether a slot has more to do than it can: then new requests go to the cloud, until it has caught up.

How often that was so, and how many were turned away, is counted: so the fleet hears of it where no cloud answers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from agent.gateway.losses import now
from modules.protocol.routing import Overload

#: how much the newest answer counts in the latency that is looked at
_NEWEST: Final = 0.2
# It comes back at these parts of the bounds, so that it does not go to and fro.
_QUEUE_BACK: Final = 0.5
_LATENCY_BACK: Final = 0.8
_MS: Final = 1000.0


class Load:
    """Of one slot."""

    def __init__(self) -> None:
        self._over = False
        self._inside = 0
        self._latency_ms = 0.0
        self._overloaded = self._refused = 0

    def over(self, bound: Overload, *, waiting: int, room: int) -> bool:
        """Whether the next request is to go elsewhere.

        One is always left here: by its latency is seen when it is over.

        Args:
            bound: from when on.
            waiting: how many wait now.
            room: how many may.
        """
        most = max(1, min(bound.waiting, room))
        part, slow = (_QUEUE_BACK, _LATENCY_BACK) if self._over else (1.0, 1.0)
        queued = waiting > most * part if self._over else waiting >= most
        self._over = queued or bool(bound.latency_ms and self._latency_ms > bound.latency_ms * slow)
        self._overloaded += self._over
        return self._over and self._inside > 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """While a request waits or is worked on here."""
        began = now()
        self._inside += 1
        try:
            yield
        except web.HTTPTooManyRequests:
            self._refused += 1
            raise
        finally:
            self._inside -= 1
            self._latency_ms += _NEWEST * ((now() - began) * _MS - self._latency_ms)

    def shown(self) -> dict[str, int]:
        """Requests that came while there was too much to do, and those that were turned away for want of a place."""
        counts = {"overloaded": self._overloaded, "refused": self._refused}
        return {name: count for name, count in counts.items() if count}
