"""Memory that this process may really use: the machine's, or less where a cgroup above it has a limit."""

import re
from pathlib import Path
from typing import Final

from modules import cgroups

_FILES: Final = {1: "memory.limit_in_bytes", 2: "memory.max"}


def granted(root: Path = Path("/")) -> int | None:
    """Bytes granted; None where nothing says. ``root`` is where /proc and /sys are found.

    Without a limit version 1 has a number larger than any machine, version 2 the word ``max``.
    """
    found = [cgroups.text(folder / _FILES[version]) for folder, version in cgroups.folders("memory", root)]
    machine = re.search(r"^MemTotal:\s+(\d+) kB", cgroups.text(root / "proc/meminfo"), re.MULTILINE)
    sizes = [int(one) for one in found if one.isdecimal()] + ([int(machine[1]) * 1024] if machine else [])
    return min((size for size in sizes if size > 0), default=None)
