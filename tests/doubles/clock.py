"""A clock that tests move: whoever sleeps on it moves it on himself, so that nothing really waits."""

import asyncio
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """Implements ``agent.clock.Clock``. ``advance`` lets time pass; ``jump`` sets the wall's clock, as a person would.

    ``reboot`` begins another boot, as a machine that starts does. ``zone`` is what the local time is ahead of UTC.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now
        self.since_boot = 1000.0
        self.boots = 1
        self.zone = timedelta()

    def now(self) -> float:
        return self.time

    def local(self) -> datetime:
        return (datetime.fromtimestamp(self.time, UTC) + self.zone).replace(tzinfo=None)

    def monotonic(self) -> float:
        return self.since_boot

    def boot(self) -> str:
        return f"boot {self.boots}"

    def jump(self, seconds: float) -> None:
        self.time += seconds

    def reboot(self) -> None:
        self.boots += 1
        self.since_boot = 5.0

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.since_boot += seconds
