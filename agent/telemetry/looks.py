"""Reads the figures of the machine and of the modules. Counts are those since the last look."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agent.clock import Clock
from agent.engines.contract import ContainerEngine
from agent.health import ask
from agent.slots import Placed, Slot
from hardware.system import System
from hardware.thermal import temperature
from modules.bounds import MAX_REAL
from modules.canonical import UNREADABLE
from modules.counted import Looked
from modules.errors import EdgefleetError
from modules.names import Slug
from modules.protocol.phases import Phase

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 1 << 20
_STATUS_S: Final = 5.0
_STATUS_LIMIT: Final = 64 << 10
# Of /proc/stat's first line: user nice system idle iowait irq softirq steal.
_IDLE: Final = slice(3, 5)
_CPU_FIELDS: Final = 8


class Look(NamedTuple):
    """Figures of a slot, or of the whole device (None), taken at ``at`` seconds of the boot; None: just now."""

    slot: Slug | None
    figures: dict[str, float]
    at: float | None = None


class _Status(msgspec.Struct, frozen=True):
    answers: Looked | None = None


class Host:
    """The machine's figures; ``state`` is the folder whose disk counts."""

    def __init__(self, system: System, state: Path, clock: Clock) -> None:
        self._system, self._state, self._clock = system, state, clock
        self._cpu: tuple[int, int] | None = None

    def look(self) -> list[Look]:
        """One look, in a few small files of the kernel."""
        figures = {"uptime_s": self._clock.monotonic()} | self._memory() | self._disk()
        if (busy := self._busy()) is not None:
            figures["cpu_percent"] = busy
        if (load := _first(self._system.read("/proc/loadavg"))) is not None:
            figures["load_1m"] = load
        if (heat := temperature(self._system)) is not None:
            figures["temperature_c"] = heat
        statm = self._system.read("/proc/self/statm").split()
        if len(statm) > 1 and statm[1].isdecimal():
            figures["agent_memory_mb"] = int(statm[1]) * _PAGE / _MIB
        return [Look(None, rounded(figures))]

    def _busy(self) -> float | None:
        words = self._system.read("/proc/stat").partition("\n")[0].split()[1 : _CPU_FIELDS + 1]
        ticks = [int(word) for word in words if word.isdecimal()]
        before, self._cpu = self._cpu, (sum(ticks), sum(ticks[_IDLE])) if ticks else None
        if before is None or self._cpu is None or self._cpu[0] <= before[0]:
            return None
        whole, idle = (now - then for now, then in zip(self._cpu, before, strict=True))
        return 100 * (1 - min(max(idle, 0), whole) / whole)

    def _memory(self) -> dict[str, float]:
        lines = (line.partition(":") for line in self._system.read("/proc/meminfo").splitlines())
        kib = {name: _first(rest) for name, _, rest in lines}
        whole, free = kib.get("MemTotal"), kib.get("MemAvailable")
        if not whole or free is None:
            return {}
        return {"memory_available_mb": free / 1024, "memory_used_percent": 100 * (1 - free / whole)}

    def _disk(self) -> dict[str, float]:
        try:
            disk = shutil.disk_usage(self._state)
        except OSError:
            return {}
        used = 100 * (1 - disk.free / disk.total) if disk.total else 100.0
        return {"disk_free_mb": disk.free / _MIB, "disk_used_percent": used}


class Modules:
    """How the committed modules are, by their engines and by themselves."""

    def __init__(self, engines: Mapping[str, ContainerEngine], clock: Clock) -> None:
        self._engines, self._clock = engines, clock
        self._before: dict[str, tuple[float, float | None, Looked | None]] = {}

    async def look(self, slots: tuple[Slot, ...]) -> list[Look]:
        """One look at each slot that has a committed module; one after the other, for nobody waits for it."""
        here = [(slot, slot.current) for slot in slots if slot.current is not None and slot.phase is not Phase.REMOVING]
        found = [Look(slot.slot, await self._look(slot, placed)) for slot, placed in here]
        for gone in self._before.keys() - {placed.instance for _, placed in here}:
            del self._before[gone]
        return found

    async def _look(self, slot: Slot, placed: Placed) -> dict[str, float]:
        figures = {"up": float(slot.upkeep.state == "up"), "restarts": float(slot.upkeep.restarts)}
        answers, now = await self._answers(placed), self._clock.monotonic()
        at, cpu_s, counted = self._before.get(placed.instance, (now, None, None))
        try:
            usage = await self._engines[placed.wanted.engine].usage(placed.instance)
        except (EdgefleetError, KeyError):
            usage = None
        if usage is not None:
            figures |= {"memory_mb": usage.memory_mb, "processes": float(usage.tasks)}
            if cpu_s is not None and now > at and usage.cpu_s >= cpu_s:
                figures["cpu_percent"] = 100 * (usage.cpu_s - cpu_s) / (now - at)
        if answers is not None and counted is not None:
            names = ("looked", "nan", "empty")
            since = {name: float(getattr(answers, name) - getattr(counted, name)) for name in names}
            if min(since.values()) >= 0:
                figures |= {"answers": since["looked"], "nan": since["nan"], "empty": since["empty"]}
        self._before[placed.instance] = (now, usage.cpu_s if usage else None, answers)
        return rounded(figures)

    async def _answers(self, placed: Placed) -> Looked | None:
        """What its server says of its answers: a module's word, bounded, and nothing is decided by it."""
        answer = await ask(placed.socket, "GET", "/edgefleet/status", timeout_s=_STATUS_S, limit=_STATUS_LIMIT)
        try:
            return msgspec.json.decode(answer.body, type=_Status).answers if answer else None
        except UNREADABLE:
            return None


def _first(text: str) -> float | None:
    """The number at the beginning of a text."""
    try:
        return float(text.split(maxsplit=1)[0])
    except (IndexError, ValueError):
        return None


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """To four significant digits or to whole numbers, and only what a document may hold."""
    found = {}
    for name, value in figures.items():
        if abs(value) <= MAX_REAL:  # which no NaN is
            found[name] = float(round(value)) if abs(value) >= 1000 else float(f"{value:.4g}")  # noqa: PLR2004
    return found
