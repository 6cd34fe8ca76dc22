"""Time and chance as things that are handed in, so that tests need neither."""

import asyncio
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

# No true time is before the day this agent was written.
BUILT: Final = datetime(2026, 11, 21, tzinfo=UTC)
# The kernel makes it at each start of the machine, see random(4).
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Two times and waiting: the wall's is for people and expiries, the boot's for everything that waits.

    The wall's jumps: a device without a battery begins in 1970 and is set right hours later. So no wait, probation or
    back-off is measured with it.
    """

    def now(self) -> float:
        """Unix seconds."""
        ...

    def local(self) -> datetime:
        """The wall's time in the device's own time zone, as people there read it from a clock."""
        ...

    def monotonic(self) -> float:
        """Seconds since the machine started, asleep or awake; the same for every process until it starts again."""
        ...

    def boot(self) -> str:
        """Which start of the machine this is: what :meth:`monotonic` counts from."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        return time.time()

    def local(self) -> datetime:
        time.tzset()  # somebody may have set the time zone since the last look
        return datetime(*time.localtime()[:6])  # noqa: DTZ001 - local it is

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot(self) -> str:
        return _BOOT_ID.read_text().strip()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def known_local(clock: Clock) -> datetime | None:
    """The local time; None where the clock is not set: a device without a battery begins in 1970."""
    return clock.local() if clock.now() >= BUILT.timestamp() else None


def backoff(attempt: int, *, first_s: float = 1.0, most_s: float = 300.0) -> float:
    """Seconds to wait before attempt number ``attempt`` (counted from 1): doubling, capped, with 20 % jitter.

    The jitter keeps ten thousand devices from coming back in the same second after an outage.
    """
    return min(first_s * 2.0 ** min(attempt - 1, 30), most_s) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
