"""What the simulated fleet has done, counted as it happens: for the live line, the record, and the summary."""

import json
import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, TextIO

from modules.protocol.phases import Phase

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_KB: Final = 1000
_log = logging.getLogger(__name__)
# What is shown of a second: how many of each.
RATES: Final = ("reports", "acks", "orders", "blocks", "telemetry")


class Tally:
    """Counts; ``record`` is a file that gets a line of JSON for each order that a device accepts and each phase."""

    def __init__(self, devices: int, record: TextIO | None) -> None:
        self.devices = devices
        self.connected = 0
        # Devices whose first report is in the server's database.
        self.greeted = 0
        self.done: Counter[str] = Counter()
        self.phases: Counter[str] = Counter()
        self._record = record
        self._began = time.monotonic()
        self._before: tuple[float, Counter[str]] = (self._began, Counter())
        self._rss = rss()
        self._met: set[str] = set()
        self.memory_kb = 0.0

    def moved(self, device: str, slot: str, before: str | None, after: str | None) -> None:
        """A slot of a device went from one phase to another; None where there is no module in it."""
        if before is not None:
            self.phases[before] -= 1
        if after is not None:
            self.phases[after] += 1
            self.note(device, "phase", slot=slot, phase=after)

    def note(self, device: str, what: str, **more: Any) -> None:
        if self._record is not None:
            line = {"at": round(time.time(), 4), "device": device, "what": what} | more
            self._record.write(json.dumps(line) + "\n")

    def failed(self, device: str, error: BaseException) -> None:
        """A defect of the simulator: counted, and each kind said once."""
        self.done["defects"] += 1
        if (kind := type(error).__name__) not in self._met:
            self._met.add(kind)
            _log.error("%s met a defect of this program, please report it", device, exc_info=error)

    def line(self) -> str:
        """One line for a person: who is there, in which phases, and what happens in a second."""
        at, before = self._before
        now, done = time.monotonic(), Counter({name: self.done[name] for name in RATES})
        rates = {name: (done[name] - before[name]) / max(now - at, 0.001) for name in RATES}
        self._before = (now, done)
        parts = [f"{self.connected} of {self.devices} connected"]
        if shown := ", ".join(f"{phase} {count}" for phase, count in self.in_order().items()):
            parts.append(shown)
        if busy := ", ".join(f"{rate:.0f} {name}/s" for name, rate in rates.items() if rate >= 1):
            parts.append(busy)
        return " | ".join(parts)

    def in_order(self) -> dict[str, int]:
        """Devices' slots by phase, as far as there are any, in the order of a module's way."""
        order = [str(phase) for phase in Phase]
        names = sorted(self.phases, key=lambda name: order.index(name) if name in order else len(order))
        return {name: self.phases[name] for name in names if self.phases[name]}

    def settled(self) -> None:
        """All are connected: what they take is what memory has grown by."""
        self.memory_kb = (rss() - self._rss) / _KB / self.devices

    def summary(self) -> dict[str, Any]:
        return {
            "devices": self.devices,
            "connected": self.connected,
            "seconds": round(time.monotonic() - self._began, 2),
            "phases": self.in_order(),
            "done": dict(sorted(self.done.items())),
            "memory_kb_per_device": round(self.memory_kb, 1),
        }


def rss() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
