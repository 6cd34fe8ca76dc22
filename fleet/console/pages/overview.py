"""The fleet at a glance: what is wrong, why, and what to do."""

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import frame, live
from fleet.console.visit import Visit, page


@page("/")
async def overview(visit: Visit) -> None:
    with frame(visit, "Overview", at="/", command="edgefleet rollouts list"), parts.panel("Rollouts"):
        rows = ui.column().classes("ef-rows")

    async def refresh() -> None:
        found = await visit.get("rollouts", limit=5, unattended=True)
        rows.clear()
        with rows:
            for one in found:
                with ui.element("div").classes("ef-line"):
                    ui.link(one["module"], f"/rollouts/{one['id']}")
                    parts.state(one["state"])
                    parts.moment(one["created"])
            if not found:
                parts.nothing("No rollout yet.", "edgefleet rollouts start MODULE --slot main")

    await live(refresh)
