"""All devices, a page at a time: the server filters, sorts and counts; the filters stand in the address."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import Query
from nicegui import ui

from fleet.console import joining, parts
from fleet.console.closed import needs
from fleet.console.devices_bulk import Bulk
from fleet.console.devices_parts import COLUMNS, SORTS, STATES, Filters, row, waiting
from fleet.console.frame import frame, live
from fleet.console.redrawn import Redrawn
from fleet.console.saved import Saved
from fleet.console.visit import Visit, page, together

# Who may do any of it sees boxes to tick.
_CHANGES = ("group:write", "command:write", "rollout:write", "device:write")
# Left out where there is no room for them: on a tablet, or on a phone alone.
_NARROW = {"labels": "ef-broad", "computes": "ef-broad", "runs": "ef-roomy"}


@page("/devices")
@needs("device:read")
async def devices(
    visit: Visit,
    search: str = "",
    selector: str = "",
    state: Annotated[list[str] | None, Query()] = None,
    sort: str = "id",
    after: str = "",
) -> None:
    at = Filters(search[:100], selector, tuple(one for one in state or () if one in STATES), sort, after[:100])

    def go(**changed: Any) -> None:
        ui.navigate.to(at._replace(**({"after": ""} | changed)).address)

    with frame(visit, "Devices", at="/devices", command=at.command):
        if visit.may("device:approve"):
            with ui.element("section").classes("ef-panel").props("id=waiting") as waits_to_join:
                ui.label("Waiting to join").classes("ef-panel-title").props('role="heading" aria-level="2"')
                pending = Redrawn(lambda found: waiting(visit, found, refresh))
        _filters(visit, at, go)
        with ui.row().classes("ef-line"):
            total = ui.label().classes("ef-strong")
            ui.space()
            joining.offer(visit)
            ui.link("Map of sites", "/sites")
            ui.select(SORTS, value=at.sort if at.sort in SORTS else "id", on_change=lambda e: go(sort=e.value)).props(
                'dense outlined options-dense aria-label="Order"'
            )
        table = _table()
        if any(visit.may(one) for one in _CHANGES):
            table.selection = "multiple"
            table.props["ticks"] = True
            bulk = Bulk(visit, table, at)
            table.on_select(lambda _: bulk.ticked())
        none = ui.column()
        with none:
            if at._replace(sort="id") == Filters():
                parts.nothing("No device has joined yet.", "edgefleet devices join")
            else:
                parts.nothing("No device fits these filters.")
        with ui.row():
            if after:
                ui.button("First page", icon="first_page", on_click=partial(go)).props("flat no-caps")
            further = ui.button("Next page", icon="navigate_next").props("flat no-caps")
    place = {"after": ""}
    further.on_click(lambda: go(after=place["after"]))

    async def refresh() -> None:
        asked = [visit.page("devices", unattended=True, **at.asked)]
        if visit.may("device:approve"):
            asked.append(visit.get("pending", unattended=True))
        found, *keys = await together(*asked)
        parts.fill(table, [row(one) for one in found.rows])
        place["after"] = found.after
        further.set_visibility(bool(found.after))
        none.set_visibility(not found.rows)
        table.set_visibility(bool(found.rows))
        total.set_text(f"{found.total} device{'s' if found.total != '1' else ''}" if found.total else "")
        for waits in keys:
            waits_to_join.set_visibility(bool(waits))
            pending.show(waits)

    await live(refresh)


def _table() -> ui.table:
    table = parts.table(COLUMNS, "id").classes("ef-devices").props("hide-pagination")
    for column in table.columns:
        column["sortable"] = False  # the server sorts
        if kind := _NARROW.get(column["name"]):
            column |= {"classes": kind, "headerClasses": kind}
    return table


def _filters(visit: Visit, at: Filters, go: Callable[..., None]) -> None:
    with ui.row().classes("ef-filters"):
        search = ui.input("Search", value=at.search, placeholder="part of a name or label")
        selector = ui.input("Selector", value=at.selector, placeholder="site=berlin")

        def filtered() -> None:
            go(search=(search.value or "").strip(), selector=(selector.value or "").strip())

        for one in (search, selector):
            one.props("dense outlined clearable").on("keydown.enter", filtered).on("clear", filtered)
        ui.button("Filter", on_click=filtered).props("no-caps outline")
        Saved(visit, at.selector, lambda chosen: go(selector=chosen))
        for state in STATES:
            chosen = state in at.state
            others = tuple(one for one in at.state if one != state)
            chip = ui.button(state, on_click=partial(go, state=others if chosen else (*others, state)))
            chip.props(f"no-caps rounded dense {'unelevated' if chosen else 'outline'}")
            chip.props["aria-pressed"] = str(chosen).lower()
            chip.classes(f"ef-state-chip ef-{parts.look(state)}" + (" ef-chosen" if chosen else ""))
