"""Whether a replica that keeps a request waiting is still there.

A container that somebody paused, or took out of its network, takes requests and answers none, and no connection breaks.
So whoever keeps a request waiting is asked beside it for a sign of life; one that gives none in time is asked by nobody
until it gives one again, and what waits there is sent to another. A model that takes its time goes on giving signs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import aiohttp

from modules.protocol.routing import Replica

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

#: only who keeps a request waiting for longer than this (seconds) is asked beside it, and then so often
LATE_S: Final = 1.0


class NoSign(Exception):
    """The replica that was asked gives no sign of life; it may come back, and its answer is not waited for."""


class Watch:
    """Over one replica. It costs nothing while answers come at once.

    Args:
        replica: whom it watches; its ``silent_s`` is how long a sign of life may take.
        session: opens a connection for each request.
        silent: the replicas that give no sign now, in which this one is put and from which it is taken.
    """

    def __init__(self, replica: Replica, session: Callable[[], aiohttp.ClientSession], silent: set[Replica]) -> None:
        self._replica, self._session, self._silent = replica, session, silent
        # The oldest stands first.
        self._waiting: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def over(self, asked: Awaitable[_T]) -> _T:
        """The answer's head, unless its replica gives no sign of life.

        Raises:
            NoSign: it gives none.
        """
        limit = asyncio.timeout(None)
        try:
            async with limit:
                if self._replica in self._silent:
                    limit.reschedule(0)
                self._waiting[limit] = _now()
                self._arm(LATE_S)
                return await asked
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise NoSign(f"it gave no sign of life for {self._replica.silent_s:g} s") from error
        finally:
            self._waiting.pop(limit, None)

    def close(self) -> None:
        """Its replica is no more, or nobody waits there any more."""
        self._silent.discard(self._replica)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _arm(self, after_s: float) -> None:
        if self._timer is None and self._task is None:
            self._timer = asyncio.get_running_loop().call_later(after_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if (since := next(iter(self._waiting.values()), None)) is None:
            return
        if (left := since + LATE_S - _now()) > 0:
            self._arm(left)
        else:
            self._task = asyncio.create_task(self._ask_on(), name=f"sign-of-life-{self._replica.instance}")

    async def _ask_on(self) -> None:
        """Ask for signs of life for as long as somebody waits, or none comes."""
        asked: float | None = None  # when the first of those questions was put that had no answer
        try:
            while self._waiting or self._replica in self._silent:
                lost = self._replica in self._silent
                asked = _now() if asked is None or lost else asked
                if await self._gives_sign(max(asked + self._replica.silent_s - _now(), 0.0)):
                    asked = None
                    if lost:
                        self._silent.discard(self._replica)
                        logger.warning("replica %s: it gives signs of life again", self._replica.instance)
                elif not lost and _now() - asked >= self._replica.silent_s:
                    self._lose()
                await asyncio.sleep(LATE_S)
        finally:
            self._task = None

    def _lose(self) -> None:
        logger.warning("replica %s: no sign of life; it is asked no more", self._replica.instance)
        self._silent.add(self._replica)
        for limit in self._waiting:
            limit.reschedule(0)

    async def _gives_sign(self, within_s: float) -> bool:
        """Whether anything is said there in time, be it no: who refuses or hangs up is there, and ends, perhaps."""
        key = {"Authorization": f"Bearer {self._replica.key}"} if self._replica.key else {}
        try:
            async with asyncio.timeout(within_s), self._session().get(f"{self._replica.url}/", headers=key):
                return True
        except aiohttp.ClientConnectorError as error:
            return isinstance(error.os_error, ConnectionRefusedError)
        except TimeoutError:  # of connecting, too
            return False
        except (aiohttp.ClientError, OSError):
            return True


def _now() -> float:
    return asyncio.get_running_loop().time()
