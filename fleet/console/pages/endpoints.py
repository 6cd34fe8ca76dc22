"""Endpoints in the cloud: where they answer, how requests are shared, their keys and logs; and where they live."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from nicegui import ui

from fleet.console import endpoint_parts, parts
from fleet.console.closed import needs
from fleet.console.endpoint_costs import DAYS, Costs
from fleet.console.endpoint_fallbacks import Fallbacks
from fleet.console.frame import acting, asks, frame, live, refused
from fleet.console.visit import Said, Visit, page, together

_EVERY = (
    parts.Column("name", "Name", "link"),
    parts.Column("state", "State", "state"),
    parts.Column("why", "Why", "words"),
    parts.Column("modules", "Serves", "words"),
    parts.Column("target", "Where"),
    parts.Column("url", "Address", "words"),
)
_TARGETS = (
    parts.Column("name", "Name"),
    parts.Column("kind", "Kind"),
    parts.Column("endpoints", "Endpoints"),
)
_LINES = 200
_SELDOM_S = 60.0


@page("/endpoints")
@needs("endpoint:read")
async def every(visit: Visit) -> None:
    with frame(visit, "Endpoints", at="/endpoints", command="edgefleet endpoints list"):
        table = parts.table(_EVERY, "name").classes("ef-steady")
        empty = ui.column()
        with empty:
            parts.nothing(
                "No endpoint yet. Attach a place where one can live, and deploy a signed module there.",
                "edgefleet endpoints deploy NAME MODULE --target TARGET",
            )
        if visit.may("target:read"):
            with parts.panel("Targets"):
                places = parts.table(_TARGETS, "name", empty="No target yet: edgefleet targets attach")

    async def refresh() -> None:
        paths = ("endpoints", "targets") if visit.may("target:read") else ("endpoints",)
        found, *where = await together(*(visit.get(one, unattended=True) for one in paths))
        empty.set_visibility(not found)
        table.set_visibility(bool(found))
        parts.fill(table, [_row(one) for one in found])
        for every_one in where:
            parts.fill(places, [_place(one) for one in every_one])

    await live(refresh)


@page("/endpoints/{name}")
@needs("endpoint:read")
async def one(visit: Visit, name: str) -> None:
    await visit.about(endpoint=name[:100])
    await _One(visit, name).show()


class _One:
    """One endpoint's page."""

    def __init__(self, visit: Visit, name: str) -> None:
        self._visit, self._name = visit, name
        self._path = f"endpoints/{quote(name, safe='')}"
        self._found: dict[str, Any] = {}
        self._split: endpoint_parts.Split | None = None
        # What is written anew when the endpoint has changed, by what writes it.
        self._places: dict[Callable[[dict[str, Any]], None], ui.element] = {}

    async def show(self) -> None:
        may = self._visit.may
        with frame(
            self._visit, self._name, at="/endpoints", command=f"edgefleet endpoints show {parts.quoted(self._name)}"
        ):
            with ui.row().classes("ef-line"):
                self._places[_state] = ui.row().classes("ef-line")
                if may("endpoint:try"):
                    ui.link("Try it", f"/try?endpoint={quote(self._name)}").classes("ef-go")
            for title, write in (("Requests go to", _shares), ("Address", _address)):
                with parts.panel(title, wide=True):
                    self._places[write] = ui.column().classes("ef-rows")
                    if write is _shares and may("endpoint:write"):
                        self._split = endpoint_parts.Split(self._visit, self._path, self._refresh)
            with ui.element("div").classes("ef-grid"):
                with parts.panel("Cost"):
                    self._costs = Costs(self._name)
                if may("fallback:read"):
                    with parts.panel("Devices that fall back to it"):
                        self._fallbacks = Fallbacks(self._visit, self._name, self._refresh)
            if may("endpoint:key"):
                _keys(self._visit, self._path)
            if may("endpoint:log"):
                _logs(self._visit, self._path)
            with parts.panel("Settings", wide=True):
                self._places[_settings] = ui.column().classes("ef-rows")
            if may("endpoint:write"):
                remove = ui.button("Remove this endpoint", icon="delete", on_click=self._remove)
                remove.props("outline no-caps color=negative")
        await live(self._refresh)
        await live(self._look_back, _SELDOM_S)

    async def _look_back(self) -> None:
        """What is added up over a day changes slowly, and is asked for seldom."""
        self._costs.show_days(await self._visit.get(f"{self._path}/costs", unattended=True, days=DAYS))
        if self._visit.may("fallback:read"):
            await self._fallbacks.count()

    async def _refresh(self) -> None:
        found = await self._visit.get(self._path, unattended=True)
        self._costs.show(found)
        if self._visit.may("fallback:read"):
            await self._fallbacks.refresh(found["versions"][found["default"]]["module"].partition(":")[0])
        found = {name: value for name, value in found.items() if name not in {"costs", "demand"}}
        if found == self._found:
            return
        self._found = found
        if self._split is not None:
            self._split.show(found)
        for write, place in self._places.items():
            place.clear()
            with place:
                write(found)

    async def _remove(self) -> None:
        said = f"Nobody answers at {self._name} any more. Devices that fall back to it are alone."
        sure = await asks(f"Remove the endpoint {self._name}?", said, "Remove")
        if sure and await acting(self._visit.ask("DELETE", self._path), "It is being removed"):
            ui.navigate.to("/endpoints")


def _state(found: dict[str, Any]) -> None:
    parts.state(found["state"]).classes("ef-large")
    ui.label(found["why"][: parts.WORDS]).classes("ef-lead")


def _settings(found: dict[str, Any]) -> None:
    given = sorted(found["settings"].items())
    parts.fields([(key, _set(key, value)) for key, value in given if value not in (None, "", [], {}, False)])


def _set(key: str, value: Any) -> str:
    """A setting as a person reads it: what ends in ``_s`` is seconds, and a yes is no word of Python's."""
    if value is True:
        return "yes"
    if key.endswith("_s"):
        return f"{value:g} s" + (f" ({parts.lasting(value)})" if value >= parts.HOUR_S else "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row(one: dict[str, Any]) -> dict[str, Any]:
    served = (f"{found['module']} {found['weight']} %" for found in one["versions"].values() if found["weight"])
    return {name: one[name] for name in ("name", "state", "target", "url")} | {
        "why": one["why"][: parts.WORDS],
        "name_to": f"/endpoints/{quote(one['name'], safe='')}",
        "state_look": parts.look(one["state"]),
        "modules": ", ".join(served),
    }


def _place(one: dict[str, Any]) -> dict[str, Any]:
    return {name: one.get(name, "") for name in ("name", "kind", "endpoints")}


def _shares(found: dict[str, Any]) -> None:
    endpoint_parts.bar({name: one["weight"] for name, one in found["versions"].items()})
    for name, one in sorted(found["versions"].items(), key=lambda one: -one[1]["weight"]):
        with ui.row().classes("ef-line"):
            ui.label(name + (" (default)" if name == found["default"] else ""))
            ui.label(one["module"]).classes("ef-mono")
            ready = f"{one['ready']} of {one['replicas']} ready"
            ui.label(ready).classes("ef-state ef-" + ("good" if one["ready"] >= one["replicas"] else "warn"))
            ui.label(one["provider"]).classes("ef-soft")


def _address(found: dict[str, Any]) -> None:
    if found["url"]:
        ui.label(found["url"]).classes("ef-mono")
        ui.label(found["swagger_url"]).classes("ef-mono ef-soft")
    else:
        ui.label("Nobody answers yet.").classes("ef-soft")


def _keys(visit: Visit, endpoint: str) -> None:
    """Shown on demand alone: they are in nobody's screenshot unasked."""
    path = f"{endpoint}/keys"

    async def show() -> None:
        try:
            _told(await visit.get(path))
        except Said as said:
            refused(said)

    async def change(which: str) -> None:
        other = "secondary" if which == "primary" else "primary"
        told = f"Who comes with the {which} key is let in no more; the {other} key goes on. Have they moved to it?"
        if await asks(f"Make a new {which} key?", told, "Make a new key"):
            try:
                _told(await visit.ask("POST", path, json={"which": which}))
            except Said as said:
                refused(said)

    def _told(keys: dict[str, str]) -> None:
        shown.clear()
        with shown:
            for which, key in keys.items():
                with ui.row().classes("ef-line"):
                    ui.label(which).classes("ef-soft")
                    ui.label(key).classes("ef-mono")

    with parts.panel("Keys", wide=True):
        said = "To change both without a gap: give clients the secondary, make a new primary, give them that one, and"
        ui.label(f"{said} make a new secondary.").classes("ef-soft")
        parts.command(
            f"edgefleet endpoints keys {parts.quoted(unquote(endpoint.rpartition('/')[2]))} --regenerate primary"
        )
        shown = ui.column().classes("ef-rows")
        with ui.row():
            ui.button("Show the keys", on_click=show).props("flat no-caps")
            ui.button("New primary key", on_click=lambda: change("primary")).props("flat no-caps")
            ui.button("New secondary key", on_click=lambda: change("secondary")).props("flat no-caps")


def _logs(visit: Visit, endpoint: str) -> None:
    async def show() -> None:
        try:
            found = await visit.get(f"{endpoint}/logs", lines=_LINES)
        except Said as said:
            refused(said)
            return
        lines.clear()
        with lines:
            for who, text in found.items():
                ui.label(who).classes("ef-soft")
                ui.label(text).classes("ef-mono ef-log").props("tabindex=0")

    with parts.panel("Logs", wide=True):
        ui.button("Fetch the last lines", on_click=show).props("flat no-caps")
        lines = ui.column().classes("ef-rows")
