"""Processor, cores and memory: what every host has."""

import re
from typing import Final

from hardware.finding import Finding
from hardware.system import System
from modules.cores import granted

# The kernel's names, as container platforms call them.
_PLATFORMS: Final = {
    "x86_64": "linux/amd64",
    "aarch64": "linux/arm64",
    "armv7l": "linux/arm/v7",
    "armv6l": "linux/arm/v6",
    "i686": "linux/386",
    "ppc64le": "linux/ppc64le",
    "riscv64": "linux/riscv64",
    "s390x": "linux/s390x",
}
# The limit of the top of the hierarchy that we see: of this container where we are in one. The agent's own unit may
# have a tighter one below, which does not bind the containers that the engine starts.
_MEMORY_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_MIB: Final = 1 << 20


def probe(system: System) -> Finding:
    machine = system.machine()
    platform = _PLATFORMS.get(machine, f"linux/{machine}")
    cores = granted(system.root)
    memory, memory_from = _memory(system)
    return Finding(
        platform=platform,
        cpu_model=_model(system),
        cores=cores,
        memory_mb=memory // _MIB,
        notes=(
            f"{platform}, because the kernel says {machine}",
            f"{cores:g} cores, the least of affinity and cgroup quotas",
            f"{memory // _MIB} MiB of memory, from {memory_from}",
        ),
    )


def _model(system: System) -> str:
    """The processor's name; on boards that do not tell it, the board's."""
    cpuinfo = system.read("/proc/cpuinfo")
    for name in ("model name", "Model", "Hardware"):
        if match := re.search(rf"^{name}\s*:\s*(.+)$", cpuinfo, re.MULTILINE):
            return match[1].strip()
    return system.read("/proc/device-tree/model")


def _memory(system: System) -> tuple[int, str]:
    """Bytes of memory, and the file that says so."""
    match = re.search(r"^MemTotal:\s*(\d+) kB$", system.read("/proc/meminfo"), re.MULTILINE)
    found = [(int(match[1]) * 1024, "/proc/meminfo")] if match else []
    limits = ((system.read(path), path) for path in _MEMORY_LIMITS)
    found += [(int(text), path) for text, path in limits if text.isdigit()]
    return min(found, default=(0, "nowhere"))
