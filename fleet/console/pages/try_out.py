"""A module is tried out where it serves: what is sent, where to, and what comes back."""

import shlex
from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import parts, try_answer, try_form, try_large
from fleet.console.frame import acting, frame, refused
from fleet.console.module_parts import link_of
from fleet.console.once import once
from fleet.console.try_large import Place
from fleet.console.try_picture import Picture
from fleet.console.visit import Said, Visit, page
from modules.errors import Invalid

_DEVICES: Final = 100
_EMPTY: Final = '{"data": []}'


@page("/try")
async def try_out(visit: Visit, module: str = "", device: str = "", slot: str = "", endpoint: str = "") -> None:
    """``module`` and where: a device, perhaps with a slot, or an endpoint; what is left out is chosen here."""
    if not (visit.may("device:try") or visit.may("endpoint:try")):
        with frame(visit, "Try a module", at="/modules"):
            parts.nothing("Your roles send nothing to modules (device:try, endpoint:try).")
        return
    found: list[Place] = []
    with frame(visit, "Try a module", at="/modules"):
        if await acting(_find(found, visit, module[:300], device[:63], endpoint[:63])):
            await _Bench(visit, found, slot).begin()


async def _find(found: list[Place], visit: Visit, module: str, device: str, endpoint: str) -> None:
    """Where this person may ask: as the address says, else wherever the module is."""
    if device:
        shown = await visit.get(f"devices/{quote(device, safe='')}")
        serving = [one for one in (shown["report"] or {}).get("slots", []) if one["serving"]]
        found += [_on_device(device, one["slot"], one["serving"]["module"], shown["online"]) for one in serving]
    elif module and visit.may("device:try") and visit.may("device:read"):
        path = "modules/" + "/".join(quote(one, safe="") for one in module.replace(":", "/").split("/"))
        for place in await visit.get(f"{path}/devices", limit=_DEVICES):
            found += [_on_device(place["device"], one, module, place["online"]) for one in place["slots"]]
    if visit.may("endpoint:try"):
        # After those of a device: where else its modules serve, for what is too large to go there.
        there = {one.module for one in found} if device else None
        for one in await visit.get("endpoints"):
            if not endpoint or one["name"] == endpoint:
                places = [_at_endpoint(one, name) for name in one["versions"]]
                found += [each for each in places if there is None or each.module in there]
    if module:
        found[:] = [one for one in found if one.module == module]


def _on_device(device: str, slot: str, module: str, online: bool) -> Place:  # noqa: FBT001 - as the API says it
    path = f"devices/{quote(device, safe='')}/slots/{quote(slot, safe='')}/try"
    name = f"device {device}, slot {slot}: {module}" + ("" if online else " (offline)")
    command = f"edgefleet try {parts.quoted(module)} --device {device} --slot {slot}"
    return Place(name, module, path, "", command, slot)


def _at_endpoint(one: dict[str, Any], version: str) -> Place:
    module, name = one["versions"][version]["module"], one["name"]
    path, command = f"endpoints/{quote(name, safe='')}/try", f"edgefleet try {module} --endpoint {name}"
    return Place(f"endpoint {name}, version {version}: {module}", module, path, version, command, "")


class _Bench:
    """The page once it is known where one may ask."""

    def __init__(self, visit: Visit, places: list[Place], slot: str) -> None:
        self._visit, self._places = visit, places
        self._form: try_form.Form | None = None
        self._fields: dict[str, Any] = {}
        self._names: dict[str, list[str]] = {}
        if not places:
            parts.nothing("Nobody serves it where you may ask: roll it out, or open this from a device or an endpoint.")
            ui.link("Modules", "/modules")
            return
        first = next((at for at, one in enumerate(places) if slot and f"slot {slot}:" in one.name), 0)
        with ui.element("div").classes("ef-try"):
            with parts.panel("Ask"):
                names = {at: one.name[: parts.WORDS] for at, one in enumerate(places)}
                self._where = (
                    ui.select(names, value=first, label="Where")
                    .props("outlined dense")
                    .classes("ef-wide-field ef-whole-words")
                )
                self._where.on_value_change(self._moved)
                with ui.tabs().props("dense no-caps align=left") as tabs:
                    for name in ("JSON", "Picture or file", "Form"):
                        ui.tab(name)
                self._tabs = tabs
                with ui.tab_panels(tabs, value="JSON").classes("ef-wide-field ef-tabs"):
                    with ui.tab_panel("JSON"):
                        self._json = (
                            ui.textarea("JSON to send", value=_EMPTY).props("outlined").classes("ef-wide-field ef-mono")
                        )
                    with ui.tab_panel("Picture or file"):
                        self._picture = Picture(visit, self._tell)
                    with ui.tab_panel("Form"):
                        self._draw_fetch()
                self._too_large = ui.column().classes("ef-rows")
                with ui.row().classes("ef-line ef-level"):
                    self._send = ui.button("Send", icon="send", on_click=once(self._sent, apart_s=0)).props("no-caps")
                    ui.label(
                        "It is asked as any client's request is: it counts, and may cost what an answer costs."
                    ).classes("ef-soft")
                self._command = ui.element("div").classes("ef-wide-field")
            with parts.panel("Answer"):
                self._answer = ui.column().classes("ef-rows").props('aria-live="polite"')
                with self._answer:
                    ui.label("Nothing was sent yet.").classes("ef-soft")
        for one in (tabs, self._json):
            one.on_value_change(self._tell)

    async def begin(self) -> None:
        """Learn how the module that is chosen first takes pictures."""
        if self._places:
            await self._picture.aim(self._place.module)

    @property
    def _place(self) -> Place:
        return self._places[int(self._where.value)]

    async def _moved(self) -> None:
        """Another module may take something else."""
        self._form = None
        self._draw_fields()
        await self.begin()

    def _draw_fetch(self) -> None:
        self._form_place = ui.column().classes("ef-rows")
        self._draw_fields()

    def _draw_fields(self) -> None:
        self._form_place.clear()
        self._fields = {}
        with self._form_place:
            if self._form is None:
                ui.label(
                    "The module itself says what it takes; to know it, it is asked for its OpenAPI document."
                ).classes("ef-soft")
                ui.button("Fetch the form", icon="list_alt", on_click=once(self._fetched)).props("no-caps outline")
                return
            if self._form.kinds:
                ui.label(f"It takes files, too: {', '.join(self._form.kinds)[: parts.WORDS]}").classes("ef-soft")
            if not self._form.fields:
                ui.label("It takes any JSON: its document names no fields. An example stands under JSON.")
            for one in self._form.fields:
                self._fields[one.name] = _widget(one)
                self._fields[one.name].on_value_change(self._tell)

    async def _fetched(self) -> None:
        outcome = await self._ask(b"", "", path="swagger.json")
        if outcome is None:
            return
        answer = outcome["answer"]
        if answer is None or answer["status"] != 200:  # noqa: PLR2004 - HTTP's OK
            self._show(outcome)
            return
        try:
            self._form = try_form.read(try_answer.bytes_of(answer))
        except Invalid as error:
            ui.notify(str(error)[: parts.WORDS], type="warning")
            return
        self._json.set_value(self._form.example)
        self._draw_fields()
        self._tell()

    def _body(self) -> tuple[bytes, str]:
        """What is sent, and its media type.

        Raises:
            Invalid: there is nothing yet, or a field has no JSON.
        """
        if self._tabs.value == "JSON":
            return (self._json.value or "").encode(), try_form.JSON
        if self._tabs.value == "Form":
            if self._form is None or not self._form.fields:
                raise Invalid("there is no form yet", element="Form", remedy="fetch it, or write JSON")
            return try_form.body(
                self._form.fields, {name: one.value for name, one in self._fields.items()}
            ), try_form.JSON
        return self._picture.body()

    async def _sent(self) -> None:
        try:
            data, kind = self._body()
        except Invalid as error:
            ui.notify(str(error)[: parts.WORDS], type="negative")
            return
        if len(data) > self._place.most:
            self._tell()  # the last letters were still on their way when it was sent
            return
        if (outcome := await self._ask(data, kind)) is not None:
            answered = (outcome["answer"] or {}).get("module", "")
            # Another module's classes have other names.
            mine = answered in ("", self._place.module)
            self._show(outcome, await self._names_of(self._place.module) if mine else [])

    async def _ask(self, data: bytes, kind: str, path: str = "score") -> dict[str, Any] | None:
        place, asked = self._place, {"path": path}
        asked |= {"version": place.version} if place.version else {}
        headers = {"Content-Type": kind} if kind else {}
        self._send.props("loading")
        try:
            found: dict[str, Any] = await self._visit.ask(
                "POST", place.path, content=data, headers=headers, params=asked
            )
        except Said as said:
            refused(said)
            return None
        finally:
            self._send.props(remove="loading")
        return found

    def _show(self, outcome: dict[str, Any], labels: list[str] | None = None) -> None:
        self._answer.clear()
        with self._answer:
            try_answer.draw(outcome, self._place.module, labels or [])

    async def _names_of(self, module: str) -> list[str]:
        """The names of what the module tells apart, where it brings them and this person may see modules."""
        if module not in self._names and self._visit.may("module:read"):
            try:
                found = await self._visit.get(f"{link_of(module).removeprefix('/')}/classes")
            except Said:
                return []  # without names the numbers stand there
            self._names[module] = found["names"]
        return self._names.get(module, [])

    def _tell(self) -> None:
        """The same on the command line; or that it is too large, and what to do."""
        self._command.clear()
        words, length, kind = self._place.command, 0, try_form.JSON
        try:
            if self._tabs.value == "Picture or file":
                words += self._picture.command
                length, kind = self._picture.length, self._picture.kind
            else:
                data, kind = self._body()
                words, length = f"{words} --data {shlex.quote(data.decode())}", len(data)
        except Invalid:
            words += " --openapi"
        self._too_large.clear()
        fits = length <= self._place.most
        self._send.set_enabled(fits)
        if not fits:
            with self._too_large:
                smaller = self._picture.smaller if self._tabs.value == "Picture or file" else ""
                try_large.draw(
                    length, kind, self._places, int(self._where.value), self._where.set_value, smaller=smaller
                )
            return
        with self._command:
            parts.command(words if len(words) < _SHOWN else f"{self._place.command} --input FILE")


def _widget(field: try_form.Field) -> Any:
    label = field.name if not field.about else f"{field.name}: {field.about}"
    match field.kind:
        case "text":
            made: Any = ui.input(label, value=field.given).props("outlined dense")
        case "number" | "whole":
            made = ui.number(label, value=field.given, step=1 if field.kind == "whole" else None).props(
                "outlined dense"
            )
        case "switch":
            made = ui.switch(label, value=field.given)
        case "choice":
            made = ui.select(list(field.options), value=field.given, label=label).props("outlined dense")
        case _:
            made = ui.textarea(label, value=field.given).props("outlined").classes("ef-mono")
    return made.classes("ef-wide-field")


_SHOWN: Final = 4000
