"""Whether a module fits the device of a page, and which certificates it was given."""

from typing import Any, Final
from urllib.parse import urlencode

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import refused
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Said, Visit

# Of the modules of a large fleet the newest versions can be chosen; any other can be typed.
_CHOICE: Final = 500


class DeviceFit:
    """Choose any module, signed or a draft: it fits, or every reason why not, as a rollout would decide it."""

    def __init__(self, visit: Visit, device: str, module: str = "") -> None:
        self._visit, self._device = visit, device
        with ui.element("div").classes("ef-column"):
            self._module = ui.select(
                [module] if module else [], value=module or None, label="Module", with_input=True,
                new_value_mode="add-unique", on_change=self.look,
            ).props("outlined dense clearable").classes("ef-wide-field")  # fmt: skip
            self._answer = Redrawn(lambda found: _fitting(visit, found))
            self._answer.show(None)

    async def offer(self) -> None:
        """Modules to choose from, and the answer about one that the address names."""
        try:
            found = await self._visit.get("modules", unattended=True)
        except Said as said:
            refused(said)
            return
        chosen = self._module.value
        options = [one["ref"] for one in found[:_CHOICE]]
        self._module.set_options(options if chosen in {None, *options} else [chosen, *options], value=chosen)
        if chosen:
            await self.look()

    async def look(self) -> None:
        """Ask about what is chosen."""
        if not self._module.value:
            self._answer.show(None)
            return
        try:
            self._answer.show(await self._visit.get(f"devices/{self._device}/fits", module=self._module.value))
        except Said as said:
            self._answer.show({"refused": said.words})


def _fitting(visit: Visit, found: dict[str, Any] | None) -> None:
    if found is None:
        ui.label("It is decided as a rollout decides it; nothing is started.").classes("ef-soft")
        return
    if "refused" in found:
        ui.label(found["refused"][: parts.WORDS]).classes("ef-reason")
        return
    word = parts.state("fits" if found["fits"] else "does not fit").classes("ef-large")
    word.classes(remove="ef-calm", add="ef-good" if found["fits"] else "ef-bad")
    for one in found["engines"]:
        with ui.element("div").classes("ef-line"):
            ui.label(f"With {one['engine']}").classes("ef-strong")
            if one["fits"]:
                ui.label(f"on {one['hardware']}"[: parts.WORDS]).classes("ef-words")
        look = "ef-soft ef-words" if found["fits"] else "ef-reason"
        for reason in one["reasons"]:
            ui.label(reason[: parts.WORDS]).classes(look)
    needs = found["needs"]
    asks = [f"{needs['memory_mb']} MiB of memory"] if needs["memory_mb"] else []
    asks += [f"{needs['disk_mb']} MiB of disk"] if needs["disk_mb"] else []
    asks += [f"{needs['cpu_cores']:g} cores"] if needs["cpu_cores"] else []
    runs = ", ".join(needs["runtimes"])
    ui.label(f"It runs on {runs}" + (f", and needs {', '.join(asks)}" if asks else "")).classes("ef-soft ef-words")
    if found["fits"] and visit.may("rollout:write"):
        query = urlencode({"module": found["module"], "selector": f"id={found['device']}"})
        ui.link("Start a rollout for it", f"/rollouts/new?{query}")
    parts.command(f"edgefleet modules fits {found['module']} {found['device']}")


def given(found: list[dict[str, Any]]) -> None:
    """The certificates that it was given: each renewal is one more."""
    if not found:
        return
    renewals = len(found) - 1
    ui.label(f"{len(found)} given so far, renewed {renewals} {'time' if renewals == 1 else 'times'}").classes("ef-soft")
    for one in found:
        with ui.element("div").classes("ef-given"):
            ui.label(one["serial"]).classes("ef-mono")
            with ui.element("div").classes("ef-line"):
                ui.label("given").classes("ef-soft")
                parts.moment(one["issued"], absent="long ago")
                ui.label("ends").classes("ef-soft")
                parts.moment(one["ends"])
                if one["revoked"]:
                    ui.label("taken back").classes("ef-state ef-bad")
                    parts.moment(one["revoked"])
