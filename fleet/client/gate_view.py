"""What the gates of a rollout see, as the server tells of it."""

from collections.abc import Sequence

import msgspec

from fleet.client.api import Fleet
from fleet.client.screen import Screen


class Worst(msgspec.Struct, frozen=True, kw_only=True):
    """The device that is furthest from a gate: what it measured, on how much that rests, and what was before."""

    device: str
    value: float | str | None = None
    rests_on: int | None = None
    before: float | None = None


class GateReading(msgspec.Struct, frozen=True, kw_only=True):
    """What one gate sees in one wave: how many devices meet it, do not, or are still measured."""

    wave: int
    measure: str
    limit: str
    allowed: float | str
    minimum: int
    met: int
    failed: int
    waits: int
    worst: Worst | None = None


def ask(fleet: Fleet, rollout: str) -> list[GateReading]:
    return fleet.ask(list[GateReading], "GET", f"/api/v1/rollouts/{rollout}/gates")


def show(screen: Screen, gates: Sequence[GateReading]) -> None:
    """For people."""
    rows = (
        (one.wave, f"{one.measure} {one.limit} {_figure(one.allowed)}", one.met, one.failed, one.waits, _worst(one))
        for one in gates
    )
    empty = "Its policy has no gates, or no wave is open yet."
    screen.table(("WAVE", "GATE", "MET", "FAILED", "WAITS", "FURTHEST"), rows, empty=empty)


def _figure(value: float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float | int) else value or ""


def _worst(one: GateReading) -> str:
    if one.worst is None:
        return "nothing measured yet"
    on = "" if one.worst.rests_on is None else f" of {one.worst.rests_on}"
    before = "" if one.worst.before is None else f", {_figure(one.worst.before)} before"
    return f"{_figure(one.worst.value)}{on}{before} on {one.worst.device}"
