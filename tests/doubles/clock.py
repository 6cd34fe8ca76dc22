"""A clock that tests move: whoever sleeps on it moves it on himself, so that nothing really waits."""

import asyncio


class VirtualClock:
    """Implements ``agent.clock.Clock``. ``advance`` lets time pass for everybody."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self.time += seconds
