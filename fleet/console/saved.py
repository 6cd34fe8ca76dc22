"""Selectors that are kept under a name: one's own and shared ones, to be chosen, kept and forgotten."""

from collections.abc import Callable
from typing import Any

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import acting, asks, refused
from fleet.console.visit import Said, Visit


class Saved:
    """A menu beside the filters; ``choose`` is told a selector, ``now`` says the one that the page has."""

    def __init__(self, visit: Visit, now: str, choose: Callable[[str], None]) -> None:
        self._visit, self._now, self._choose = visit, now, choose
        with ui.button("Saved", icon="bookmarks").props("no-caps outline"), _menu() as self._menu:
            self._shown = ui.column().classes("ef-saved")
        self._menu.on("before-show", self._refresh)
        with self._shown:
            ui.label("…")

    async def _refresh(self) -> None:
        try:
            found = await self._visit.get("saved-selectors")
        except Said as said:
            refused(said)
            return
        self._shown.clear()
        with self._shown:
            for one in found:
                self._one(one)
            if not found:
                ui.label("No selector is kept yet.").classes("ef-soft")
            if self._now:
                ui.button("Keep this selector", icon="bookmark_add", on_click=self._keep).props("no-caps flat")
            else:
                ui.label("Filter by a selector, and keep it here.").classes("ef-soft")
            parts.command("edgefleet devices selectors list")

    def _one(self, one: dict[str, Any]) -> None:
        with ui.element("div").classes("ef-saved-row"):
            chosen = ui.button(one["name"], on_click=lambda: self._choose(one["selector"])).props("no-caps flat dense")
            chosen.props["aria-label"] = f"Show the devices of {one['name']}"
            ui.label(one["selector"][: parts.WORDS]).classes("ef-mono ef-words")
            ui.label(f"shared by {one['by']}"[:100] if one["shared"] else "yours").classes("ef-soft")
            if not one["shared"] or self._visit.may("group:write"):
                gone = ui.button(icon="delete", on_click=lambda: self._forget(one)).props("flat dense size=sm")
                gone.props["aria-label"] = f"Forget {one['name']}"

    async def _keep(self) -> None:
        self._menu.close()
        with ui.dialog() as dialog, ui.card().classes("ef-ask"):
            ui.label("Keep this selector").classes("ef-title")
            ui.label(self._now).classes("ef-mono")
            name = ui.input("Name, as berlin-canaries").props("outlined dense autofocus maxlength=63")
            shared = ui.checkbox("For everybody who may see devices")
            shared.set_visibility(self._visit.may("group:write"))
            with ui.row():
                ui.button("Keep it", on_click=lambda: dialog.submit((name.value or "").strip())).props("no-caps")
                ui.button("Cancel", on_click=lambda: dialog.submit("")).props("no-caps flat")
        if kept := await dialog:
            path = f"{'shared' if shared.value else 'saved'}-selectors/{kept}"
            await acting(self._visit.ask("PUT", path, json={"selector": self._now}), f"{kept} is kept")

    async def _forget(self, one: dict[str, Any]) -> None:
        self._menu.close()
        who = "Nobody finds it any more." if one["shared"] else "Devices are not touched."
        if await asks(f"Forget the selector {one['name']}?", who, "Forget it"):
            path = f"{'shared' if one['shared'] else 'saved'}-selectors/{one['name']}"
            await acting(self._visit.ask("DELETE", path), f"{one['name']} is forgotten")


def _menu() -> ui.menu:
    """It holds buttons and links, which no menu of a screen reader's has."""
    return ui.menu().props('role=dialog aria-label="Saved selectors"')
