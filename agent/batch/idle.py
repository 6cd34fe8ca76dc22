"""What *idle* means: nobody asks, nothing is being brought on, and the processor has little else to do.

Each answer is a sentence for the operator, and stays the same as long as it holds, so that it is reported once.
"""

import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from agent.answering import Told
from agent.clock import Clock, known_local
from agent.counted import counted
from agent.maintenance import CODE as OUTSIDE
from agent.maintenance import why_closed
from agent.settings import Settings
from agent.slots import Slot
from hardware.system import System
from modules.protocol.order import Window
from modules.protocol.phases import Phase

#: The processor is looked at over so long.
OVER_S: Final = 10.0
_IDLE: Final = slice(3, 5)
_CPU_FIELDS: Final = 8
_DAY_MIN: Final = 24 * 60
_BROUGHT_ON: Final = frozenset(
    {Phase.VERIFIED, Phase.STAGED, Phase.STARTING, Phase.PROBATION, Phase.REVERTING, Phase.REMOVING}
)


class Idle:
    """Looks at this device; ``told`` is what the gateway says of itself (None: it does not)."""

    def __init__(
        self,
        settings: Settings,
        told: Callable[[], Awaitable[Told | None]],
        clock: Clock,
        system: System | None = None,
    ) -> None:
        self._settings, self._told, self._clock = settings, told, clock
        self._system = system or System()
        self._ticks_s = os.sysconf("SC_CLK_TCK")
        self._requests: dict[str, int] | None = None
        self._asked_at = clock.monotonic()
        # Seconds of all processors, those of them that were busy, and those of the job, each with when it was.
        self._cpu: deque[tuple[float, float, float, float]] = deque()

    async def why_not(self, slots: tuple[Slot, ...], own_cpu_s: float | None) -> str:
        """Why a job may not run now; empty: it may. ``own_cpu_s`` is what the job that runs has used, None: none runs.

        Everything is looked at each time, so that what was measured is never old.
        """
        reasons = [self._window(), self._brought_on(slots), await self._asked(), self._busy(own_cpu_s)]
        return next(filter(None, reasons), "")

    def _window(self) -> str:
        closed = why_closed(windows(self._settings.batch_hours), known_local(self._clock))
        return closed[0].message if closed else ""

    @staticmethod
    def _brought_on(slots: tuple[Slot, ...]) -> str:
        for slot in slots:
            waits = slot.phase is Phase.STAGED and slot.target.reason and slot.target.reason.code == OUTSIDE
            if slot.phase in _BROUGHT_ON and not waits:
                return f"slot {slot.slot} is being brought to {slot.wanted.module}"
            if slot.upkeep.trouble:
                return f"the module of slot {slot.slot} does not answer"
        return ""

    async def _asked(self) -> str:
        told = await self._told()
        now = self._clock.monotonic()
        if told is None:
            self._requests, self._asked_at = None, now
            return "the gateway does not say whether anybody asks"
        requests = {name: one.requests for name, one in counted(told).items()}
        if requests != self._requests or any(_in_flight(slot) for slot in told.slots):
            self._requests, self._asked_at = requests, now
        if now - self._asked_at < self._settings.batch_idle_s:
            return f"applications have asked in the last {self._settings.batch_idle_s:g} s"
        return ""

    def _busy(self, own_s: float | None) -> str:
        """What others make of the processor; while that is not known, nothing is begun and nothing ended for it."""
        now, most = self._clock.monotonic(), self._settings.batch_others_cpu
        words = self._system.read("/proc/stat").partition("\n")[0].split()[1 : _CPU_FIELDS + 1]
        ticks = [int(word) for word in words if word.isdecimal()]
        if not ticks:
            return ""  # this machine does not say
        whole, busy, own = sum(ticks) / self._ticks_s, (sum(ticks) - sum(ticks[_IDLE])) / self._ticks_s, own_s or 0.0
        if self._cpu and (own < self._cpu[-1][3] or (not self._cpu[-1][3] and own)):
            self._cpu.clear()  # another container's count
        self._cpu.append((now, whole, busy, own))
        while len(self._cpu) > 2 and now - self._cpu[1][0] >= OVER_S:  # noqa: PLR2004 - the oldest and the newest
            self._cpu.popleft()
        then = self._cpu[0]
        if now - then[0] < OVER_S or whole <= then[1]:
            return "" if own_s is not None else "it is being measured how busy the processor is"
        others = (busy - then[2] - (own - then[3])) / (whole - then[1])
        return f"other programs use more than {most:.0%} of the processor" if others > most else ""


def windows(hours: str) -> tuple[Window, ...]:
    """Hours as ``22:00-06:00``, every day; empty: always."""
    if not hours:
        return ()
    begins, _, ends = hours.partition("-")
    minutes = (_minute(ends) - _minute(begins)) % _DAY_MIN or _DAY_MIN
    return (Window(begins=begins, minutes=minutes),)


def _minute(time: str) -> int:
    hours, _, minutes = time.partition(":")
    return int(hours) * 60 + int(minutes)


def _in_flight(slot: dict[str, Any]) -> bool:
    return bool(slot.get("in_flight"))
