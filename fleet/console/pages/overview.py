"""The fleet at a glance: what is wrong, why, and what to do."""

import itertools
from typing import Final

from nicegui import ui

from fleet.console import joining, overview_parts, parts
from fleet.console.closed import needs
from fleet.console.frame import frame, live
from fleet.console.health_chart import HealthChart
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Visit, page, together

# What is counted in quarters of an hour is asked for every so many looks.
_SELDOM: Final = 20


@page("/")
@needs("device:read")
async def overview(visit: Visit) -> None:
    with frame(visit, "Overview", at="/", command="edgefleet overview"):
        steps = ui.element("section").classes("ef-panel ef-steps")
        with steps:
            first = Redrawn(overview_parts.first_steps)
            joining.offer(visit)  # not drawn anew under somebody who looks at what it made
        whole = ui.column().classes("ef-stack")
        with whole:
            attention, devices = Redrawn(overview_parts.attention), Redrawn(overview_parts.devices)
            with ui.element("div").classes("ef-grid"):
                with parts.panel("Running rollouts", wide=True):
                    rollouts = Redrawn(overview_parts.rollouts)
                with parts.panel("Devices by health", wide=True):
                    health = HealthChart(visit)
                with parts.panel("Modules by version"):
                    modules = Redrawn(overview_parts.modules)
                with parts.panel("Answered by the cloud"):
                    answered = Redrawn(overview_parts.answered)
                with parts.panel("Security events"):
                    events = Redrawn(overview_parts.events)

    looks = itertools.count()

    async def refresh() -> None:
        seldom = [health.refresh()] if next(looks) % _SELDOM == 0 else []
        found, *_ = await together(visit.get("overview", unattended=True), *seldom)
        # Who sees a part of the fleet alone is told no steps: for them it may only look empty.
        empty = not found["devices"]["all"] and bool(found["steps"])
        steps.set_visibility(empty)
        whole.set_visibility(not empty or bool(found["attention"]))
        first.show(found["steps"])
        for part, name in (
            (attention, "attention"),
            (devices, "devices"),
            (rollouts, "rollouts"),
            (modules, "modules"),
            (answered, "answered"),
            (events, "events"),
        ):
            part.show(found[name])

    await live(refresh)
