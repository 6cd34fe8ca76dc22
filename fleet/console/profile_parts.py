"""What publishers measured of a module, by kind of hardware, on its page."""

from typing import Any, Final

from nicegui import ui

from fleet.console import parts

_RUNS: Final = 12


def draw_profiles(given: tuple[str, list[dict[str, Any]]]) -> None:
    """The recommendation large, and below it each number of cores with what it brings."""
    ref, found = given
    if not found:
        parts.nothing("Nobody measured it yet.", f"edgefleet models profile {parts.quoted(ref)} --keep")
    with ui.element("div").classes("ef-grid"):
        for one in found:
            with ui.column().classes("ef-rows"):
                ui.label(one["hardware"]).classes("ef-strong")
                ui.label(f"{one['cpu']:g} cores and {one['memory_gb']:g} GB are enough").classes("ef-lead")
                with ui.element("div").classes("ef-line"):
                    ui.label(f"measured by {one['by']}"[: parts.WORDS]).classes("ef-soft")
                    parts.moment(one["created"]).classes("ef-soft")
                _draw_runs(one["runs"])


def _draw_runs(runs: list[dict[str, Any]]) -> None:
    best = max((run["per_second"] or 0.0 for run in runs), default=0.0) or 1.0
    for run in runs[:_RUNS]:
        limit = f", {run['memory_mb']} MiB" if run["memory_mb"] else ""
        with ui.element("div").classes("ef-run"):
            ui.label(f"{run['cpu']:g} cores{limit}").classes("ef-cell")
            if run["problem"] or run["per_second"] is None:
                ui.label(run["problem"] or "nothing was measured").classes("ef-reason")
                continue
            share = ui.element("div").classes("ef-operator-bar").props("aria-hidden=true")
            share.style(f"width:{100 * run['per_second'] / best:.1f}%")
            ui.label(f"{run['per_second']:.0f}/s, {run['p95_ms'] or 0:.1f} ms")
    if len(runs) > _RUNS:
        ui.label(f"and {len(runs) - _RUNS} more measurements").classes("ef-soft")
