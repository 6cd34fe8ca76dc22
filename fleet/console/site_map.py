"""Sites as a schematic map: degrees as they are, a graticule, and a ring for each site with its devices by state.

Nothing comes from outside: no tiles, no outlines of coasts. What cannot be placed stands as a tile below the map.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from nicegui import ui

from fleet.console import parts

# A ring's parts, the worst first, as colours have them.
_RING: Final = (
    ("bad", ("offline", "revoked")),
    ("warn", ("degraded",)),
    ("calm", ("updating",)),
    ("good", ("online",)),
)
_WORLD: Final = (-180.0, 180.0, -90.0, 90.0)
# The map is twice as wide as high; around the outermost site so many parts of a hundred are left.
_RATIO: Final = 2.0
_MARGIN: Final = 0.25
# One site alone has some land around it.
_LEAST: Final = 2.0
_STEPS: Final = (30.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)
_LINES: Final = 5
_SMALLEST, _LARGEST = 30.0, 76.0
_THOUSAND: Final = 1000


class Frame(NamedTuple):
    """The part of the world that is shown, in degrees."""

    west: float
    east: float
    south: float
    north: float

    def place(self, lat: float, lon: float) -> tuple[float, float]:
        """From the left and from the top, in parts of a hundred."""
        return (
            100 * (lon - self.west) / (self.east - self.west),
            100 * (self.north - lat) / (self.north - self.south),
        )


def framed(places: Sequence[tuple[float, float]]) -> Frame:
    """Around these, as wide as the map is, with the degrees of longitude as long as they are in the middle of it."""
    lats, lons = [lat for lat, _ in places], [lon for _, lon in places]
    middle_lat, middle_lon = (min(lats) + max(lats)) / 2, (min(lons) + max(lons)) / 2
    narrow = max(math.cos(math.radians(middle_lat)), 0.2)
    high = max(max(lats) - min(lats), _LEAST)
    wide = max((max(lons) - min(lons)) * narrow, _LEAST)
    high = max(high, wide / _RATIO) * (1 + 2 * _MARGIN)
    half_high, half_wide = high / 2, high * _RATIO / narrow / 2
    return Frame(middle_lon - half_wide, middle_lon + half_wide, middle_lat - half_high, middle_lat + half_high)


def show(found: Sequence[dict[str, Any]], label: str) -> None:
    """The map of those that have a place, and tiles of the others."""
    placed = [one for one in found if one["lat"] is not None and one["site"] is not None]
    if placed:
        _map(placed, label)
    others = [one for one in found if one not in placed]
    if others:
        with ui.element("div").classes("ef-sites"):
            for one in others:
                _tile(one, label)
    if not found:
        parts.nothing("No device has joined yet.", "edgefleet devices join")
    elif not placed:
        words = f"To see sites on a map, give one device of each the labels {label}.lat and {label}.lon, in degrees."
        parts.nothing(words, f"edgefleet devices label DEVICE {label}.lat=52.52 {label}.lon=13.40")


def _map(placed: Sequence[dict[str, Any]], label: str) -> None:
    frame = framed([(one["lat"], one["lon"]) for one in placed])
    most = max(one["devices"] for one in placed)
    with ui.element("div").classes("ef-map").props('role=group aria-label="Map of sites"'):
        _graticule(frame)
        # The large ones first, so that no small one lies below.
        for one in sorted(placed, key=lambda each: -each["devices"]):
            left, top = frame.place(one["lat"], one["lon"])
            size = _SMALLEST + (_LARGEST - _SMALLEST) * math.sqrt(one["devices"] / most)
            with ui.link(target=_target(one, label)).classes("ef-on-map") as link:
                link.style(f"left:{left:.3f}%;top:{top:.3f}%")
                link.props["aria-label"] = _said(one)
                _ring(one, size)
                ui.label(one["site"][: parts.WORDS]).classes("ef-site-name")


def _graticule(frame: Frame) -> None:
    """Lines at whole degrees, as many as are looked at without counting."""
    high = frame.north - frame.south
    step = next((one for one in reversed(_STEPS) if high / one <= _LINES), _STEPS[0])
    for low, end, vertical in ((frame.west, frame.east, True), (frame.south, frame.north, False)):
        at = math.ceil(low / step) * step
        while at < end:
            left, top = frame.place(frame.north if vertical else at, at if vertical else frame.west)
            limit = _WORLD[1] if vertical else _WORLD[3]
            if abs(at) <= limit:
                line = ui.element("div").classes("ef-meridian" if vertical else "ef-parallel").props("aria-hidden=true")
                line.style(f"left:{left:.3f}%" if vertical else f"top:{top:.3f}%")
                with line:
                    ui.label(_degrees(at, "EW" if vertical else "NS"))
            at += step


def _degrees(value: float, names: str) -> str:
    value = round(value, 3)
    return f"{abs(value):g}°" + ("" if not value else names[0] if value > 0 else names[1])


def _tile(one: dict[str, Any], label: str) -> None:
    if one["site"] is None:
        # No selector asks for what is not there.
        tile = ui.element("div").classes("ef-site-tile")
    else:
        tile = ui.link(target=_target(one, label)).classes("ef-site-tile")
    with tile:
        _ring(one, _SMALLEST + 14)
        with ui.element("div").classes("ef-words"):
            ui.label((one["site"] or f"no label {label}")[: parts.WORDS]).classes("ef-strong")
            ui.label(_states(one)).classes("ef-soft")


def _ring(one: dict[str, Any], size: float) -> None:
    """Shares of states as a ring, and the number in it."""
    turns, at = [], 0.0
    for look, states in _RING:
        share = 100 * sum(one["states"].get(state, 0) for state in states) / one["devices"]
        if share:
            turns.append(f"var(--{look}-fill) {at:.2f}% {at + share:.2f}%")
            at += share
    with ui.element("div").classes("ef-ring").props("aria-hidden=true") as ring:
        ring.style(f"width:{size:.0f}px;height:{size:.0f}px;background:conic-gradient({', '.join(turns)})")
        ui.label(_short(one["devices"]))


def _short(count: int) -> str:
    if count < _THOUSAND:
        return str(count)
    return f"{count / _THOUSAND:.1f}k" if count < 10 * _THOUSAND else f"{count // _THOUSAND}k"


def _states(one: dict[str, Any]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(one["states"].items(), key=lambda each: -each[1]))


def _said(one: dict[str, Any]) -> str:
    return f"{one['site']}: {one['devices']} devices, {_states(one)}"[: parts.WORDS]


def _target(one: dict[str, Any], label: str) -> str:
    return "/devices?" + urlencode({"selector": f"{label}={one['site']}"})
