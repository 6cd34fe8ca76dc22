"""CPU cores that this process may really use: the smaller of the affinity mask and every cgroup quota above it.

Libraries that size their thread pools from the host's core count stall in a container: with a quota of one core on a
host of 64, 64 threads spend their slice at once and then sleep. cgroup v1 and v2 are read, in the process's own group
and all groups above it, since any of them may hold the tightest quota.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def granted(root: Path = Path("/")) -> float:
    """Cores granted, as a float above zero: 0.5 is half a core. ``root`` is where /proc and /sys are found."""
    return min([float(len(os.sched_getaffinity(0))), *quotas(root)])


def threads(cores: float) -> int:
    """Threads that ``cores`` keep busy without being throttled: at least one, and a fraction of a core adds none."""
    return max(1, int(cores))


def quotas(root: Path = Path("/")) -> list[float]:
    """The CPU quota, in cores, of each cgroup that contains this process and has one."""
    found = []
    for folder, version in _folders(root):
        quota = _quota_v2(folder) if version == 2 else _quota_v1(folder)  # noqa: PLR2004 - the version's own number
        if quota is not None:
            found.append(quota)
    return found


def _folders(root: Path) -> Iterator[tuple[Path, int]]:
    """The cgroup folders from this process's own up to the mount's top, for each hierarchy that holds ``cpu``."""
    own = dict(_own_groups(root))
    for mount, version in _mounts(root):
        group = own.get(version)
        if group is None:
            continue
        # In a container the path in /proc may be the host's and not exist below the mount: the top then is our group.
        relative = PurePosixPath(group.lstrip("/"))
        for path in (relative, *relative.parents):
            folder = root / mount.lstrip("/") / path
            if ".." not in path.parts and folder.is_dir():
                yield folder, version


def _own_groups(root: Path) -> Iterator[tuple[int, str]]:
    """(cgroup version, path) of this process, from lines such as ``4:cpu,cpuacct:/a`` and ``0::/a``."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield 2, path
        elif "cpu" in controllers.split(","):
            yield 1, path


def _mounts(root: Path) -> Iterator[tuple[str, int]]:
    """(mount point, cgroup version) of the hierarchies that can hold a CPU quota."""
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, filesystem = line.partition(" - ")
        kind, _, options = filesystem.partition(" ")
        point = fields.split(" ")[4].encode().decode("unicode_escape")
        if kind == "cgroup2":
            yield point, 2
        elif kind == "cgroup" and "cpu" in options.rpartition(" ")[2].split(","):
            yield point, 1


def _quota_v2(folder: Path) -> float | None:
    text = _text(folder / "cpu.max").split()
    return None if not text or text[0] == "max" else _cores(int(text[0]), int(text[1]))


def _quota_v1(folder: Path) -> float | None:
    quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    return _cores(int(quota), int(period)) if quota and period and int(quota) > 0 else None


def _cores(quota: int, period: int) -> float | None:
    return quota / period if quota > 0 and period > 0 else None


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _text(path: Path) -> str:
    """A small file's text; empty where the kernel has none, which means that nothing is limited there."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
