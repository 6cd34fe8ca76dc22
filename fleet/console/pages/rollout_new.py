"""Starting a rollout: what, where and how; then what it would do; and only then does it begin."""

from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import parts
from fleet.console.closed import needs
from fleet.console.frame import frame, refused
from fleet.console.once import once
from fleet.console.policy_form import PolicyForm, Unreadable
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Said, Visit, page

_NAMED: Final = 8
_SHOWN: Final = 50
_ENGINES: Final = {"docker": "in a container (docker)", "process": "as a process, without isolation"}
# Beside what an error is told, by how the API's word for the place of it begins.
_PLACES: Final = {
    "policy": "policy",
    "settings": "settings",
    "fallback": "settings",
    "selector": "devices",
    "slot": "devices",
    "devices": "devices",
}


@page("/rollouts/new")
@needs("rollout:write")
async def new(visit: Visit, module: str = "", slot: str = "main", selector: str = "*") -> None:
    await _New(visit).show(module, slot[:63], selector[:2000])


class _New:
    """The form. ``_previewed`` is the wish whose preview is shown: no other can be started."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._said: dict[str, ui.label] = {}
        self._settings: dict[str, tuple[Any, Any]] = {}
        self._previewed: dict[str, Any] = {}

    async def show(self, module: str, slot: str, selector: str) -> None:
        with frame(self._visit, "Start a rollout", at="/rollouts", command="edgefleet rollouts start --help"):
            signed = await self._signed()
            if not signed:
                parts.nothing("No module is signed yet.", "edgefleet modules sign TEAM/MODULE:1 --keys FOLDER")
                return
            with parts.panel("1. What"), ui.element("div").classes("ef-fields"):
                self._module = ui.select(
                    signed, value=module if module in signed else None, label="Module", with_input=True
                )
                self._slot = ui.input("Slot: applications on the device ask it by this name", value=slot)
                self._engine = ui.select(_ENGINES, value="docker", label="Runs")
                self._place("module")
            with parts.panel("2. Where"):
                self._selector = ui.input("Devices: * for all, or labels as site=berlin,ring!=canary", value=selector)
                self._selector.classes("ef-wide-field")
                self._supersede = ui.checkbox("Take devices from rollouts of this slot that are still open")
                self._waive = ui.checkbox("Try again on devices where this very content failed before")
                self._place("devices")
            with parts.panel("3. How"):
                self._policy = PolicyForm()
                self._place("policy")
            with parts.panel("4. Settings"):
                self._adjustable = Redrawn(self._draw_settings, "ef-fields")
                self._fallback = ui.input("Fallback: endpoint:NAME, or an https address")
                self._fallback.classes("ef-wide-field")
                self._place("settings")
            for field in (self._module, self._slot, self._engine, self._selector, self._fallback):
                field.props("outlined dense stack-label")
            self._module.on_value_change(self._chosen)
            with parts.panel("What it would do"):
                self._plan = Redrawn(_draw_plan)
                self._plan.show({})
                self._place("rest")
                with ui.row():
                    ui.button("Preview", on_click=self._preview).props("no-caps")
                    self._start = ui.button("Start it", icon="rocket_launch", on_click=once(self._begin))
                    self._start.props("no-caps disable")
            await self._chosen()

    async def _signed(self) -> list[str]:
        try:
            return [one["ref"] for one in await self._visit.get("modules") if one["state"] == "signed"]
        except Said as said:
            refused(said)
            return []

    def _place(self, name: str) -> None:
        """Where errors are told that concern what stands here."""
        self._said[name] = ui.label("").classes("ef-said ef-error").props("role=alert")

    async def _chosen(self) -> None:
        """The settings that the module lets an order change."""
        adjustable: dict[str, Any] | None = None
        if self._module.value:
            team, _, rest = self._module.value.partition("/")
            name, _, version = rest.partition(":")
            try:
                found = await self._visit.get(f"modules/{team}/{name}/{version}")
                adjustable = found["manifest"].get("adjustable", {})
            except Said as said:
                refused(said)
        self._adjustable.show(adjustable)

    def _draw_settings(self, adjustable: dict[str, Any] | None) -> None:
        self._settings = {}
        if adjustable is None:
            ui.label("Choose a module: the settings that it has appear here.").classes("ef-soft")
            return
        if not adjustable:
            ui.label("The module has no settings.").classes("ef-soft")
        for name, one in adjustable.items():
            default, choices = one["default"], one.get("choices")
            field: Any
            if isinstance(default, bool):
                field = ui.checkbox(name, value=default)
            elif choices:
                field = ui.select(list(choices), value=default, label=name)
            elif isinstance(default, int | float):
                field = ui.number(name, value=default, min=one.get("minimum"), max=one.get("maximum"))
            else:
                field = ui.input(name, value=str(default))
            field.props("outlined dense stack-label")
            self._settings[name] = (field, default)

    def _wish(self) -> dict[str, Any]:
        """What the API is asked for.

        Raises:
            Unreadable: the policy is nothing that could be sent.
        """
        return {
            "module": self._module.value or "",
            "slot": (self._slot.value or "").strip(),
            "selector": (self._selector.value or "").strip(),
            "engine": self._engine.value,
            "settings": {
                name: field.value for name, (field, default) in self._settings.items() if field.value != default
            },
            "fallback": (self._fallback.value or "").strip() or None,
            "waive": self._waive.value,
            "supersede": self._supersede.value,
            "policy": self._policy.written(),
        }

    async def _preview(self) -> None:
        await self._ask("rollouts/plan")

    async def _begin(self) -> None:
        if found := await self._ask("rollouts"):
            ui.navigate.to(f"/rollouts/{quote(found['id'])}")

    async def _ask(self, path: str) -> dict[str, Any] | None:
        """Send the wish; one that is not the previewed one is previewed instead."""
        for label in self._said.values():
            label.set_text("")
        try:
            wish = self._wish()
            if path == "rollouts" and wish != self._previewed:
                path = "rollouts/plan"
                self._said["rest"].set_text("Something was changed since the preview: look again, then start it.")
            found: dict[str, Any] = await self._visit.ask("POST", path, json=wish)
        except Unreadable as error:
            self._said["policy"].set_text(str(error))
            return None
        except Said as said:
            self._refused(said)
            return None
        if path == "rollouts":
            return found
        self._previewed = wish
        self._plan.show(found)
        self._start.props(remove="disable")
        return None

    def _refused(self, said: Said) -> None:
        if said.over:
            refused(said)
            return
        element = said.element.removeprefix("body.")
        begins = next((place for word, place in _PLACES.items() if element.startswith(word)), "")
        module = element in ("module", self._module.value)
        self._said["module" if module else begins or "rest"].set_text(said.words[: parts.WORDS])


def _draw_plan(plan: dict[str, Any]) -> None:
    if not plan:
        ui.label("Which devices, in which waves, and which cannot run it: nothing is started by a preview.").classes(
            "ef-soft"
        )
        return
    devices = sum(len(one["devices"]) for one in plan["waves"])
    fetched = max(plan["download_bytes"].values(), default=0)
    with ui.element("div").classes("ef-line"):
        waves = len(plan["waves"])
        said = f"{devices} device{'' if devices == 1 else 's'} in {waves} wave{'' if waves == 1 else 's'}"
        ui.label(said).classes("ef-lead")
        ui.label(f"each fetches at most {parts.size(fetched)}").classes("ef-soft")
        if plan["misfits"]:
            ui.label(f"{len(plan['misfits'])} do not fit").classes("ef-state ef-warn")
    with ui.element("div").classes("ef-waves"):
        for one in plan["waves"]:
            named = [each["device"] for each in one["devices"]]
            with ui.element("div").classes("ef-wave ef-open") as place:
                place.style(f"flex-grow:{len(named)}")
                ui.label(f"Wave {one['wave']}: {len(named)}").classes("ef-strong")
                more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
                ui.label(", ".join(named[:_NAMED]) + more).classes("ef-whole")
                ui.label(_asked(one)).classes("ef-soft")
    for one in plan["misfits"][:_SHOWN]:
        with ui.element("div").classes("ef-line"):
            ui.label(one["device"]).classes("ef-strong")
            ui.label("; ".join(one["reasons"])[: parts.WORDS])
    if len(plan["misfits"]) > _SHOWN:
        ui.label(f"and {len(plan['misfits']) - _SHOWN} more that do not fit").classes("ef-soft")


def _asked(wave: dict[str, Any]) -> str:
    asked = wave["threshold"]
    waits = " · waits for an approval" if asked["approval"] else ""
    return f"{wave['rule'][: parts.WORDS]} · {asked['failure_percent']:g} % may fail{waits}"
