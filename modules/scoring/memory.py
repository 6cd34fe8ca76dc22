"""What a container uses of its memory, as an engine counts it: without files that are only kept in memory."""

from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
_MIB: Final = 1 << 20


def used_mb(cgroup: Path) -> float | None:
    """In MiB, of the control group that a container finds at this path; None where it cannot be read."""
    for usage, folder in (("memory.current", cgroup), ("memory.usage_in_bytes", cgroup / "memory")):
        try:
            used = int((folder / usage).read_text())
            kept = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        return max(0, used - int(kept.get("total_inactive_file", kept.get("inactive_file", 0)))) / _MIB
    return None
