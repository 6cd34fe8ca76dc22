"""Commands to one device from its page: given, followed, and what they brought; a module's log as it is written."""

from typing import Any, Final

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import acting, asks, refused
from fleet.console.once import once
from fleet.console.visit import Said, Visit

# What can be asked with a click, and what it does; True: it is asked about first.
GIVEN: Final = {
    "ping": ("asks whether the device answers", False),
    "diagnose": ("fetches a bundle that says how it is", False),
    "collect-now": ("has it send what it measured", False),
    "restart-module": ("ends the slot's module, and starts it again; requests wait or go to the fallback", True),
    "restart-agent": ("ends the agent, which systemd starts again; modules go on", True),
    "rotate-key": ("makes a new key and certificate for the device", True),
}
_OF_SLOT: Final = frozenset({"restart-module"})
_OPEN: Final = frozenset({"waiting", "sent", "running"})
_FOLLOWED_S: Final = 600
_LINES: Final = 200
# Of an answer, and of a log on the page.
_TEXT: Final = 20_000
_KEPT: Final = 500


class Commands:
    """The panel: what may be given, the newest that were, and their answers."""

    def __init__(self, visit: Visit, device: str) -> None:
        self._visit, self._device = visit, device
        self._slots: list[str] = []
        self._shown: Any = None
        if visit.may("command:write"):
            with ui.row().classes("ef-filters"):
                self._name = (
                    ui.select(list(GIVEN), value="ping", label="Command")
                    .props("dense outlined options-dense")
                    .classes("ef-select")
                )
                self._name.on_value_change(self._explain)
                self._slot = ui.select([], label="Slot").props("dense outlined options-dense").classes("ef-select")
                ui.button("Send", icon="send", on_click=once(self._give)).props("no-caps")
            self._about = ui.label().classes("ef-soft")
            self._explain()
        self._rows = ui.column().classes("ef-rows")

    def _explain(self) -> None:
        self._slot.set_visibility(self._name.value in _OF_SLOT)
        self._about.set_text(f"{self._name.value}: {GIVEN[self._name.value][0]}")

    def slots(self, found: list[str]) -> None:
        if self._visit.may("command:write") and found != self._slots:
            self._slots = found
            self._slot.set_options(found, value=self._slot.value or (found[0] if found else None))

    async def refresh(self) -> None:
        found = await self._visit.get("commands", device=self._device, limit=8, unattended=True)
        if found == self._shown:
            return
        self._shown = found
        self._rows.clear()
        with self._rows:
            for one in found:
                self._row(one)
            if not found:
                parts.nothing("No command was sent to it yet.", f"edgefleet devices command {self._device} ping")

    def _row(self, one: dict[str, Any]) -> None:
        with ui.element("div").classes("ef-line ef-command-row"):
            ui.label(" ".join(filter(None, (one["name"], one["slot"])))).classes("ef-strong")
            parts.state(one["state"])
            if one["state"] == "running" and one["progress"] is not None:
                ui.linear_progress(one["progress"], show_value=False).classes("ef-progress").props(
                    'aria-label="Progress"'
                )
            parts.moment(one["issued"]).classes("ef-soft")
            ui.label(f"by {one['by']}").classes("ef-soft")
            said = one["reason"]["message"] if one["reason"] else one["note"]
            if said:
                ui.label(said[: parts.WORDS]).classes("ef-words")
            if one["bytes"] and self._visit.may("log:read"):
                ui.button("Answer", on_click=lambda: self._answer(one)).props("flat dense no-caps")
            if one["state"] in _OPEN and self._visit.may("command:write"):
                ui.button("Cancel", on_click=lambda: self._cancel(one)).props("flat dense no-caps")

    async def _give(self) -> None:
        name = self._name.value
        told, asked = GIVEN[name]
        if asked and not await asks(f"{name} on {self._device}?", f"It {told}.", "Send it"):
            return
        wish = {"name": name, "device": self._device}
        if name in _OF_SLOT:
            wish["slot"] = self._slot.value
        if await acting(give(self._visit, wish), f"{name} is on its way"):
            await acting(self.refresh())

    async def _cancel(self, one: dict[str, Any]) -> None:
        await acting(self._visit.ask("DELETE", f"commands/{one['id']}"), "It is cancelled")
        await acting(self.refresh())

    async def _answer(self, one: dict[str, Any]) -> None:
        """A text as text; anything else is for a file."""
        try:
            found = await self._visit.ask("GET", f"commands/{one['id']}/result")
        except Said as said:
            refused(said)
            return
        with ui.dialog(value=True), ui.card().classes("ef-ask"):
            ui.label(f"{one['name']} of {self._device}").classes("ef-title")
            if one["content"].partition(";")[0] in {"text/plain", "application/json"}:
                ui.label(text(found)[:_TEXT]).classes("ef-mono ef-log")
            else:
                ui.label(f"{one['bytes']} bytes of {one['content'][:60]}")
                ending = "zip" if one["content"] == "application/zip" else "bin"
                name = f"{self._device}-{one['name']}.{ending}"
                ui.button("Save", icon="download", on_click=lambda: ui.download.content(found, name)).props("no-caps")


async def give(visit: Visit, wish: dict[str, Any]) -> dict[str, Any]:
    """Give a command to one device; its id and device.

    Raises:
        Said: it was refused, or the device takes no such command.
    """
    given = await visit.ask("POST", "commands", json=wish)
    if not given["commands"]:
        reasons = [reason for one in given["misfits"] for reason in one["reasons"]]
        raise Said(0, {"detail": "; ".join(reasons) or "the device takes no such command"})
    found: dict[str, Any] = given["commands"][0]
    return found


def text(found: Any) -> str:
    """What a device sent, as words: whatever is no text stands as a question mark."""
    return found.decode(errors="replace") if isinstance(found, bytes) else str(found)


class LogTail:
    """The newest lines of a module's log, then new ones as they come, for ten minutes."""

    def __init__(self, visit: Visit, device: str) -> None:
        self._visit, self._device = visit, device
        self._command, self._part, self._known = "", 1, [""]
        with ui.row().classes("ef-filters"):
            self._slot = ui.select([], label="Slot").props("dense outlined options-dense").classes("ef-select")
            ui.button("Follow", icon="play_arrow", on_click=once(self._follow)).props("no-caps")
            self._stop = ui.button("Stop", icon="stop", on_click=self._end).props("no-caps outline")
        self._state = ui.label("Its newest lines, and those that come within ten minutes.").classes("ef-soft")
        self._log = ui.log(max_lines=_KEPT).classes("ef-mono ef-tail").props('tabindex=0 role=log aria-label="Log"')
        self._stop.set_visibility(False)
        self._log.set_visibility(False)

    def slots(self, found: list[str]) -> None:
        if found != self._known:
            self._known = found
            self._slot.set_options(found, value=self._slot.value or (found[0] if found else None))

    async def _follow(self) -> None:
        if not self._slot.value:
            ui.notify("It runs no module whose log there could be")
            return
        if self._command:
            await self._end()
        arguments = {"lines": _LINES, "follow_s": _FOLLOWED_S}
        wish = {"name": "logs", "device": self._device, "slot": self._slot.value, "arguments": arguments}
        try:
            given = await give(self._visit, wish | {"expires_s": _FOLLOWED_S})
        except Said as said:
            refused(said)
            return
        self._command, self._part = given["id"], 1
        self._log.clear()
        self._log.set_visibility(True)
        self._state.set_text("waits for the device")
        self._stop.set_visibility(True)

    async def _end(self) -> None:
        ident, self._command = self._command, ""
        self._stop.set_visibility(False)
        self._state.set_text("stopped")
        await acting(self._visit.ask("DELETE", f"commands/{ident}"))

    async def refresh(self) -> None:
        """New pieces, as far as they came."""
        if not self._command:
            return
        path = f"commands/{self._command}"
        told = await self._visit.get(path, unattended=True, **{"from": self._part})
        if told["answers"] >= self._part:
            last = told["answers"]
            asked = {"from": self._part, "to": last}
            found = text(await self._visit.get(f"{path}/result", unattended=True, **asked))
            self._part = last + 1
            for line in found.splitlines()[-_KEPT:]:
                self._log.push(line[: parts.WORDS])
        over = told["state"] not in _OPEN
        reason = f": {told['reason']['message'][: parts.WORDS]}" if told["reason"] else ""
        self._state.set_text(f"{told['state']}{reason}")
        if over:
            self._command = ""
            self._stop.set_visibility(False)
