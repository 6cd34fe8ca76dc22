"""Memory of a process as the kernel accounts it, in MB (1,000,000 bytes)."""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

_KIB = 1024
_MB = 1_000_000


class Memory(NamedTuple):
    """Resident set; proportional set, which divides shared pages among their users; the resident set's highest mark."""

    rss: float
    pss: float
    peak: float


def memory(pid: int) -> Memory:
    status = Path(f"/proc/{pid}/status").read_text()
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return Memory(_field(status, "VmRSS"), _field(rollup, "Pss"), _field(status, "VmHWM"))


def settled(pid: int, *, samples: int, every_s: float = 1.0) -> Memory:
    """The median of some samples, and the peak."""
    taken = []
    for _ in range(samples):
        taken.append(memory(pid))
        time.sleep(every_s)
    return Memory(
        statistics.median(one.rss for one in taken), statistics.median(one.pss for one in taken), taken[-1].peak
    )


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _field(text: str, name: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * _KIB / _MB
