"""The way of one slot to the cloud: places of its own, a breaker, and the budget of the day.

A slow or dead endpoint takes no place of requests that are answered here, and costs nobody a wait for long.
"""

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from agent.gateway.breaker import Breaker
from agent.gateway.losses import now
from agent.gateway.places import Places
from agent.gateway.refusals import refusal
from agent.gateway.relay import Silence
from agent.gateway.settings import Settings
from agent.gateway.spent import Spent
from modules.protocol.routing import Bounds, Fallback

logger = logging.getLogger(__name__)

# Requests that go there at first; each answer lets one more.
_FIRST: Final = 4
Outcome = web.StreamResponse | Silence
# A gateway there that has nobody to pass a request on to.
_NOT_ITSELF: Final = frozenset({502, 503, 504})


class Way:
    """From one slot to one endpoint.

    Args:
        slot: the slot.
        fallback: the endpoint, with its terms.
        settings: of the gateway.
        spent: the counts of the day.
    """

    def __init__(self, slot: str, fallback: Fallback, settings: Settings, spent: Spent) -> None:
        self.fallback = fallback
        self._slot, self._spent = slot, spent
        self._bounds = Bounds(
            concurrent=settings.cloud_concurrent, waiting=settings.cloud_waiting, wait_s=settings.cloud_wait_s
        )
        self._places = self._few_places()
        self._idle_s, self._last, self._under_way = settings.idle_s, 0.0, 0
        self._breaker = Breaker(
            failures=settings.cloud_failures, pause_s=settings.cloud_pause_s, longest_s=settings.cloud_longest_pause_s
        )

    def closed(self) -> web.HTTPError | None:
        """Why nobody is asked there now, as an answer to the client."""
        if (found := self._breaker.state()) is not None:
            return refusal(
                web.HTTPServiceUnavailable,
                f"nothing on this device can answer now, and its endpoint in the cloud does not, either: {found.why}",
                retry_after=math.ceil(found.for_s),
            )
        if self._spent.is_over(self._slot, self.fallback.requests_a_day):
            return refusal(
                web.HTTPServiceUnavailable,
                f"nothing on this device can answer now, and the {self.fallback.requests_a_day} requests that slot "
                f"{self._slot} may send to the cloud today are spent; there are more from 00:00 UTC on",
                retry_after=self._spent.ends_in(),
            )
        return None

    @property
    def is_free(self) -> bool:
        """Whether a request that could be answered here, too, may go there without a wait."""
        return self.closed() is None and self._places.are_free

    @asynccontextmanager
    async def trip(self) -> AsyncIterator[None]:
        """One request there; :meth:`ended` says what came of it.

        Raises:
            web.HTTPError: 503 with Retry-After, where nobody is asked now; 429, where too many are on their way.
        """
        if (why := self.closed()) is not None:
            raise why
        if not self._under_way and now() - self._last > self._idle_s:
            self._places = self._few_places()  # there are no connections any more
        async with self._places.place():
            if (why := self.closed()) is not None:
                raise why  # it was found out by those before
            self._breaker.begin()
            self._under_way += 1
            self._spent.take(self._slot, self.fallback.requests_a_day)
            try:
                yield
            except web.HTTPError as error:
                if error.status >= web.HTTPInternalServerError.status_code:
                    self.failed(f"it answered {error.status} or nothing of use")
                raise
            finally:
                self._breaker.left()
                self._under_way -= 1
                self._last = now()

    def ended(self, outcome: Outcome) -> None:
        """Learn from what came of a request."""
        if isinstance(outcome, Silence):
            if outcome.absent:
                self._spent.give_back(self._slot)
            self.failed(outcome.reason, at_once=outcome.final)
        elif outcome.status in _NOT_ITSELF:
            self.failed(f"it answers {outcome.status}")
        else:
            self._places.grow()
            if self._breaker.answered():
                logger.warning("slot %s: its endpoint in the cloud answers again", self._slot)

    def _few_places(self) -> Places:
        """As with TCP's slow start: opening a connection costs both sides more than many answers over one."""
        return Places(self._bounds, of="of this slot's endpoint in the cloud", first=_FIRST)

    def failed(self, why: str, *, at_once: bool = False) -> None:
        if self._breaker.failed(why, at_once=at_once):
            logger.warning("slot %s: its endpoint in the cloud is left alone for a while: %s", self._slot, why)

    def renewed(self) -> None:
        """There may be another certificate or token: if the last was refused, it is tried at once."""
        if self._breaker.unwelcome:
            self._breaker.answered()

    def shown(self) -> dict[str, object]:
        """For whoever looks: what was sent today, and why nobody is asked now."""
        found = self._breaker.state()
        return {"sent_today": self._spent.of(self._slot), **({"left_alone": found.why} if found else {})}
