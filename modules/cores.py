"""CPU cores that this process may really use: the smaller of the affinity mask and every cgroup quota above it.

Libraries that size their thread pools from the host's core count stall in a container: with a quota of one core on a
host of 64, 64 threads spend their slice at once and then sleep. cgroup v1 and v2 are read, in the process's own group
and all groups above it, since any of them may hold the tightest quota.
"""

import os
from pathlib import Path

from modules import cgroups


def granted(root: Path = Path("/")) -> float:
    """Cores granted, as a float above zero: 0.5 is half a core. ``root`` is where /proc and /sys are found."""
    return min([float(len(os.sched_getaffinity(0))), *quotas(root)])


def threads(cores: float) -> int:
    """Threads that ``cores`` keep busy without being throttled: at least one, and a fraction of a core adds none."""
    return max(1, int(cores))


def quotas(root: Path = Path("/")) -> list[float]:
    """The CPU quota, in cores, of each cgroup that contains this process and has one."""
    found = []
    for folder, version in cgroups.folders("cpu", root):
        quota = _quota_v2(folder) if version == 2 else _quota_v1(folder)  # noqa: PLR2004 - the version's own number
        if quota is not None:
            found.append(quota)
    return found


def _quota_v2(folder: Path) -> float | None:
    text = cgroups.text(folder / "cpu.max").split()
    return None if not text or text[0] == "max" else _cores(int(text[0]), int(text[1]))


def _quota_v1(folder: Path) -> float | None:
    quota, period = cgroups.text(folder / "cpu.cfs_quota_us"), cgroups.text(folder / "cpu.cfs_period_us")
    return _cores(int(quota), int(period)) if quota and period and int(quota) > 0 else None


def _cores(quota: int, period: int) -> float | None:
    return quota / period if quota > 0 and period > 0 else None
