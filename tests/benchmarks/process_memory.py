"""Memory of a process, and of those it started, as the kernel accounts it, in MB (1,000,000 bytes)."""

import contextlib
import os
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


def family(pid: int) -> list[int]:
    """A process, those it started, and those these started, whichever sessions they made for themselves."""
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        for task in Path(f"/proc/{found[-1]}/task").glob("*"):
            # It may end while we look.
            with contextlib.suppress(OSError):
                waiting += map(int, (task / "children").read_text().split())
    return found


def family_rss(pid: int) -> float:
    """The resident sets of a process and of all it started, together."""
    pages = 0
    for one in family(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def _field(text: str, name: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * _KIB / _MB
