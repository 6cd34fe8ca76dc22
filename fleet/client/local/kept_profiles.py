"""What was measured of a module, kept on the server for others to see."""

import platform
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.api import Fleet
from fleet.client.local.profile import Profile
from fleet.client.screen import Screen, when
from modules.cores import granted
from modules.names import ModuleRef

_CPUS: Final = Path("/proc/cpuinfo")
_NAMES: Final = ("model name", "Model", "Hardware")
_LONGEST: Final = 100


def here() -> str:
    """The kind of hardware that this machine is: its processor and how many cores of it count."""
    lines = _CPUS.read_text(errors="replace").splitlines() if _CPUS.exists() else []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = next((said[one] for one in _NAMES if said.get(one)), platform.processor() or "a processor")
    end = f", {platform.machine()}, {granted():g} cores"
    return name[: _LONGEST - len(end)] + end


def send(fleet: Fleet, ref: ModuleRef, hardware: str, found: Profile) -> None:
    """Keep it on the server, instead of what was measured on the same hardware before."""
    runs = [msgspec.to_builtins(one) for one in found.runs]
    said = {"hardware": hardware, "cpu": found.cpu, "memory_gb": found.memory_gb, "runs": runs}
    fleet.ask(list[dict[str, Any]], "PUT", _place(ref), json=said)


def ask(fleet: Fleet, ref: ModuleRef) -> list[dict[str, Any]]:
    return fleet.ask(list[dict[str, Any]], "GET", _place(ref))


def show(screen: Screen, found: list[dict[str, Any]], ref: ModuleRef) -> None:
    """The recommendation for each kind of hardware, and the best that was measured there."""
    rows = []
    for one in found:
        best: dict[str, Any] = max(one["runs"], key=lambda run: run["per_second"] or 0.0, default={})
        figures = [_figure(best.get(name)) for name in ("mean_ms", "p95_ms", "per_second")]
        wanted = f"{one['cpu']:g} cores, {one['memory_gb']:g} GB"
        rows.append((one["hardware"], wanted, *figures, when(one["created"]), one["by"]))
    screen.table(
        ("HARDWARE", "RECOMMENDED", "MEAN MS", "95 % MS", "PER SECOND", "MEASURED", "BY"),
        rows,
        empty=f"Nobody kept a measurement: edgefleet models profile {ref} --keep",
    )


def _place(ref: ModuleRef) -> str:
    return f"/api/v1/modules/{ref.team}/{ref.name}/{ref.version}/profiles"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
