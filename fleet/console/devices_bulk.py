"""What is done to many devices: chosen one by one or as all that fit, shown before anything happens, then done."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import parts
from fleet.console.devices_able import Able, Unable, able, of, tell
from fleet.console.devices_parts import Filters
from fleet.console.frame import refused
from fleet.console.once import once
from fleet.console.visit import Said, Visit

# What many are told at once; the others ask for more than a click.
MANY: Final = {
    "ping": "asks whether they answer",
    "collect-now": "has them send what they measured",
    "restart-agent": "ends the agent, which systemd starts again; modules go on",
}
# So many at once: as many as one page of the API has.
MOST: Final = 500
# A selector that an address holds.
_ADDRESS: Final = 2000
_SHOWN: Final = 4
_Change = tuple[str, str]


class Bulk:
    """The bar below the table; it is there while devices are chosen."""

    def __init__(self, visit: Visit, table: ui.table, at: Filters) -> None:
        self._visit, self._table, self._at = visit, table, at
        self._every: list[dict[str, Any]] = []
        with ui.row().classes("ef-bulk") as self.bar:
            self.said = ui.label().classes("ef-strong")
            self._all = ui.button("All that fit", icon="done_all", on_click=self._choose_all).props("no-caps flat")
            if visit.may("group:write"):
                ui.button("Label", icon="sell", on_click=once(self._label)).props("no-caps outline")
            if visit.may("command:write"):
                ui.button("Command", icon="terminal", on_click=once(self._command)).props("no-caps outline")
            if visit.may("rollout:write"):
                ui.button("Start a rollout", icon="rocket_launch", on_click=self._roll_out).props("no-caps outline")
            if visit.may("device:write"):
                self._leaving()
            ui.button("None", on_click=self.none).props("no-caps flat")
        self.show()

    def _leaving(self) -> None:
        with ui.button("More", icon="expand_more").props("no-caps outline"), ui.menu():
            ui.menu_item("Revoke their certificates", once(self._revoke)).props("role=menuitem")
            ui.menu_item("Take them out of the fleet", once(self._take_out)).props("role=menuitem")

    def show(self) -> None:
        """Say how many are chosen; what was ticked since takes the place of all that fit."""
        count = len(self.chosen)
        self.bar.set_visibility(bool(count))
        self._all.set_visibility(not self._every)
        self.said.set_text(f"{count} device{'s' if count != 1 else ''} chosen")

    def ticked(self) -> None:
        """Somebody ticked a row, so it is these that are meant."""
        self._every = []
        self.show()

    def none(self) -> None:
        self._every = []
        self._table.selected.clear()
        self._table.update()
        self.show()

    @property
    def chosen(self) -> list[str]:
        return sorted(str(one["id"]) for one in self._every or self._table.selected)

    async def _choose_all(self) -> None:
        try:
            found = await self._visit.page("devices", **self._at._replace(after="").asked | {"limit": MOST})
        except Said as said:
            refused(said)
            return
        self._every = found.rows
        self.show()
        if found.after:
            ui.notify(f"These are the first {MOST}; the next once these are done", type="warning")

    async def _able(self, permission: str, unable: Unable = lambda _: "") -> Able | None:
        """For whom it can be done, of those that are chosen; None: the API refused, which is told."""
        known = {str(one["id"]): one for one in self._every}
        try:
            return await able(self._visit, self.chosen, known, permission, unable)
        except Said as said:
            refused(said)
            return None

    async def _label(self) -> None:
        if (found := await self._able("group:write")) is None:
            return
        with ui.dialog() as dialog, ui.card().classes("ef-ask"):
            ui.label(f"Label {found.said}").classes("ef-title")
            if found.devices:
                given = ui.input("key=value to set, key= to take away").props("outlined dense autofocus")
                given.classes("ef-wide-field")
            shown = ui.column().classes("ef-rows ef-preview")
            tell(found.others)
            with ui.row():
                if found.devices:
                    ui.button("Label them", on_click=lambda: dialog.submit(given.value)).props("no-caps")
                ui.button("Cancel", on_click=lambda: dialog.submit("")).props("no-caps flat")

        def preview() -> None:
            shown.clear()
            with shown:
                for one in found.devices[: parts.WORDS]:
                    after = labelled(one["labels"], given.value or "")
                    ui.label(f"{one['id']}: {_words(one['labels'])} → {_words(after)}").classes("ef-mono")

        if found.devices:
            given.on_value_change(preview)
            preview()
        if not (change := await dialog):
            return
        count = len(found.devices)
        if await self._each([partial(self._labelled, str(one["id"]), change) for one in found.devices]):
            ui.notify(f"{of(count, count)} labelled", type="positive")
            self.none()

    async def _labelled(self, name: str, change: str) -> None:
        """As its labels are by now: what a colleague has set since they were looked at stays."""
        labels = (await self._visit.get(f"devices/{name}"))["labels"]
        await self._visit.ask("PATCH", f"devices/{name}", json={"labels": labelled(labels, change)})

    async def _command(self) -> None:
        """Who takes commands, who of them is away, and who takes none and why; nothing to press where nobody does."""
        chosen = self.chosen
        try:
            # The others of these ask no more of a device than the first.
            wish = {"name": next(iter(MANY)), "devices": chosen}
            found = await self._visit.ask("POST", "commands/preview", json=wish)
        except Said as said:
            refused(said)
            return
        takes, away = found["devices"], found["offline"]
        with ui.dialog() as dialog, ui.card().classes("ef-ask"):
            ui.label(f"A command to {of(len(takes), len(chosen))}").classes("ef-title")
            if away:
                told = "is offline, and gets it if it is" if len(away) == 1 else "are offline, and get it if they are"
                ui.label(f"{', '.join(away)} {told} back within an hour.").classes("ef-words ef-preview")
            tell([(one["device"], "; ".join(one["reasons"])) for one in found["misfits"]])
            for name, what in MANY.items() if takes else ():
                with ui.row().classes("ef-line"):
                    ui.button(name, on_click=lambda name=name: dialog.submit(name)).props("no-caps outline")
                    ui.label(what).classes("ef-soft")
            ui.button("Cancel", on_click=lambda: dialog.submit("")).props("no-caps flat")
        if name := await dialog:
            await give(self._visit, name, chosen)
            self.none()

    def _roll_out(self) -> None:
        """The form of a rollout, filled in for these: it shows waves and misfits before anything starts."""
        if (selector := quote(named(self.chosen))) and len(selector) > _ADDRESS:
            ui.notify("These are too many to be named: give them a label first, and select by that", type="warning")
            return
        ui.navigate.to(f"/rollouts/new?selector={selector}")

    async def _revoke(self) -> None:
        said = "The broker refuses them at once. Each comes back with a new key alone: edgefleet devices readmit."

        def unable(one: dict[str, Any]) -> str:
            return "its certificates are revoked already" if one["state"] == "revoked" else ""

        await self._leave("Revoke", "Revoke the certificates of", said, lambda one: ("POST", f"{one}/revoke"), unable)

    async def _take_out(self) -> None:
        said = "They get no more orders, and their certificates connect no more. What they run goes on, unwatched."
        await self._leave("Take out", "Take out of the fleet", said, lambda one: ("DELETE", one), lambda _: "")

    async def _leave(
        self, yes: str, question: str, said: str, change: Callable[[str], _Change], unable: Unable
    ) -> None:
        if (found := await self._able("device:write", unable)) is None:
            return
        with ui.dialog() as dialog, ui.card().classes("ef-ask"):
            ui.label(f"{question}: {found.said}{'?' if found.devices else ''}").classes("ef-title")
            if found.devices:
                ui.label(said)
            with ui.column().classes("ef-rows ef-preview"):
                for one in found.devices[: parts.WORDS]:
                    serves = [slot["module"] for slot in (one["report"] or {}).get("slots", [])]
                    with ui.element("div").classes("ef-line"):
                        ui.label(one["id"]).classes("ef-mono")
                        parts.state(one["state"])
                        ui.label(", ".join(serves)[: parts.WORDS] or "runs nothing").classes("ef-soft ef-words")
            tell(found.others)
            with ui.row():
                if count := len(found.devices):
                    sure = ui.button(f"{yes} {of(count, count)}", on_click=lambda: dialog.submit("yes"))
                    sure.props("no-caps color=negative")
                ui.button("Cancel", on_click=lambda: dialog.submit("")).props("no-caps flat autofocus")
        changes = [change(str(one["id"])) for one in found.devices]
        if await dialog and await self._each([partial(self._visit.ask, way, f"devices/{at}") for way, at in changes]):
            ui.notify(f"Done: {of(count, count)}", type="positive")
            self.none()

    async def _each(self, changes: list[Callable[[], Awaitable[object]]]) -> bool:
        """One after the other, with how far it is; what is wrong with one may be wrong with all, so it ends there."""
        with ui.dialog(value=True).props("persistent") as dialog, ui.card():
            told = ui.label().classes("ef-strong").props("role=status")
        try:
            for number, change in enumerate(changes):
                told.set_text(f"{number} of {len(changes)} are done")
                await change()
        except Said as said:
            refused(said)
            ui.notify(f"{number} of {len(changes)} were done before that", type="warning")
            return False
        finally:
            dialog.close()
        return True


def named(chosen: list[str]) -> str:
    """A selector that means these devices."""
    return f"id in ({','.join(chosen)})"


async def give(visit: Visit, name: str, chosen: list[str]) -> None:
    """Give a command to these devices, and say how many took it and who did not."""
    try:
        given = await visit.ask("POST", "commands", json={"name": name, "devices": chosen})
    except Said as said:
        refused(said)
        return
    count = len(given["commands"])
    ui.notify(f"{name} was given to {of(count, count)}", type="positive")
    for one in given["misfits"][:_SHOWN]:
        ui.notify(f"{one['device']}: {'; '.join(one['reasons'])}"[: parts.WORDS], type="warning", timeout=12)


def labelled(labels: dict[str, str], change: str) -> dict[str, str]:
    """The labels after ``key=value`` or ``key=``, several with spaces or commas between; the API judges them."""
    after = dict(labels)
    for word in change.replace(",", " ").split():
        key, _, value = word.partition("=")
        if value:
            after[key] = value
        else:
            after.pop(key, None)
    return after


def _words(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"
