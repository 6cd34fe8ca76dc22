"""Time and chance as things that are handed in, so that tests need neither."""

import asyncio
import random
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time, and waiting."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def backoff(attempt: int, *, first_s: float = 1.0, most_s: float = 300.0) -> float:
    """Seconds to wait before attempt number ``attempt`` (counted from 1): doubling, capped, with 20 % jitter.

    The jitter keeps ten thousand devices from coming back in the same second after an outage.
    """
    return min(first_s * 2.0 ** min(attempt - 1, 30), most_s) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
