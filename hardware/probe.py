"""All probes, merged into the host's facts. Nothing here raises: a host that cannot be understood is still a host."""

from pathlib import Path
from typing import Final

import msgspec

from hardware import PROBES
from hardware.finding import Finding
from hardware.system import System
from hardware.thermal import temperature
from modules.needs import HostFacts

_MIB: Final = 1 << 20


class Examination(msgspec.Struct, frozen=True):
    """The facts, and for people the reasons of every probe by its name."""

    facts: HostFacts
    notes: tuple[tuple[str, str], ...]


def probe(folder: Path, system: System | None = None) -> HostFacts:
    """The host's facts; ``folder`` is where modules will be kept, whose free disk counts."""
    return examine(folder, system).facts


def examine(folder: Path, system: System | None = None) -> Examination:
    """The host's facts with the reasons. The engines are not hardware: the agent asks them itself."""
    system = system or System()
    found: list[Finding] = []
    notes: list[tuple[str, str]] = []
    for one in PROBES:
        name = one.__name__.rpartition(".")[2]
        try:
            finding = one.probe(system)
        except Exception as error:  # noqa: BLE001 - a surprise of one vendor's must not hide the rest of the host
            notes.append((name, f"failed: {type(error).__name__}: {error}"))
            continue
        found.append(finding)
        notes += [(name, note) for note in finding.notes]
    free, note = _disk_free(system, folder)
    notes.append(("disk", note))
    facts = HostFacts(
        platform=next((one.platform for one in found if one.platform), "unknown"),
        cpu_model=next((one.cpu_model for one in found if one.cpu_model), ""),
        cores=next((one.cores for one in found if one.cores), 1.0),
        memory_mb=next((one.memory_mb for one in found if one.memory_mb), 0),
        disk_free_mb=free,
        accelerators=tuple(accelerator for one in found for accelerator in one.accelerators),
        thermal=temperature(system) is not None,
    )
    return Examination(facts, tuple(notes))


def _disk_free(system: System, folder: Path) -> tuple[int, str]:
    try:
        free = system.disk_free(folder) // _MIB
    except OSError as error:
        return 0, f"unknown below {folder}: {error.strerror}"
    return free, f"{free} MiB free below {folder}"
