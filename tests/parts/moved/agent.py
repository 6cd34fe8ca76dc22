"""``python -m tests.parts.moved.agent run``: the agent; whatever waits by its clock waits by the time that is moved."""

import asyncio
import sys
import time

from agent import wiring
from agent.__main__ import main
from agent.clock import SystemClock

LOOK_S = 0.05


class MovedClock(SystemClock):
    """The boot's seconds pass as the wall's do: its time is moved on, and never set."""

    def monotonic(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        ends = self.monotonic() + seconds
        while (left := ends - self.monotonic()) > 0:  # noqa: ASYNC110 - another process moves the time
            await asyncio.sleep(min(left, LOOK_S))


if __name__ == "__main__":
    wiring.SystemClock = MovedClock
    sys.exit(main())
