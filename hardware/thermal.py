"""How hot the machine is, where its kernel says so."""

from typing import Final

from hardware.system import System

_ZONES: Final = "/sys/class/thermal"
_CHIPS: Final = "/sys/class/hwmon"
# In degrees; what is outside is a sensor that is not connected.
_LEAST: Final = 1.0
_MOST: Final = 150.0


def temperature(system: System) -> float | None:
    """The hottest place that is known, in degrees Celsius; None where none is."""
    zones = [f"{_ZONES}/{name}/temp" for name in system.list(_ZONES) if name.startswith("thermal_zone")]
    return _hottest(system, zones) or _hottest(system, _inputs(system))


def _inputs(system: System) -> list[str]:
    return [
        f"{_CHIPS}/{chip}/{name}"
        for chip in system.list(_CHIPS)
        for name in system.list(f"{_CHIPS}/{chip}")
        if name.startswith("temp") and name.endswith("_input")
    ]


def _hottest(system: System, files: list[str]) -> float | None:
    found = []
    for file in files:
        try:
            degrees = int(system.read(file)) / 1000
        except ValueError:
            continue
        if _LEAST <= degrees <= _MOST:
            found.append(degrees)
    return max(found, default=None)
