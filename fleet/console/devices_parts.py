"""What the list of devices is made of: its filters as they stand in the address, its rows, and what is done to many."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import acting, asks, refused
from fleet.console.visit import Said, Visit

STATES: Final = ("online", "updating", "degraded", "offline", "revoked")
LIMIT: Final = 50
# Of a device's labels and modules in a row.
_SHOWN: Final = 4
COLUMNS: Final = (
    parts.Column("id", "Device", "link"),
    parts.Column("state", "State", "state"),
    parts.Column("last_seen", "Last seen", "time"),
    parts.Column("runs", "Runs"),
    parts.Column("labels", "Labels"),
    parts.Column("computes", "Computes with"),
)
SORTS: Final = {
    "id": "by name",
    "-id": "by name, Z first",
    "-last_seen": "seen last first",
    "last_seen": "longest not seen",
}
# What many are told at once; the others ask for more than a click.
MANY: Final = {
    "ping": "asks whether they answer",
    "collect-now": "has them send what they measured",
    "restart-agent": "ends the agent, which systemd starts again; modules go on",
}


class Filters(NamedTuple):
    """What the address says; ``after`` is the place of the page."""

    search: str = ""
    selector: str = ""
    state: tuple[str, ...] = ()
    sort: str = "id"
    after: str = ""

    @property
    def asked(self) -> dict[str, Any]:
        """As the API takes it."""
        given = {name: value for name, value in self._asdict().items() if value}
        return given | {"limit": LIMIT}

    @property
    def address(self) -> str:
        given = {name: value for name, value in self._asdict().items() if value and (name, value) != ("sort", "id")}
        return "/devices" + (f"?{urlencode(given, doseq=True)}" if given else "")

    @property
    def command(self) -> str:
        words = ["edgefleet devices list"]
        words += [f"--{name} {_quoted(one)}" for name in ("search", "selector") if (one := getattr(self, name))]
        words += [f"--state {one}" for one in self.state]
        return " ".join(words if self.sort == "id" else [*words, f"--sort {self.sort}"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def row(one: dict[str, Any]) -> dict[str, Any]:
    """A device as a row: words only, and bounded."""
    slots = (one["report"] or {}).get("slots", [])
    host = (one["facts"] or {}).get("host") or {}
    runs = [f"{slot['slot']}: {slot['module']}" + _phase(slot) for slot in slots[:_SHOWN]]
    labels = [f"{key}={value}" for key, value in sorted(one["labels"].items())[:_SHOWN]]
    return {
        "id": one["id"],
        "id_to": f"/devices/{one['id']}",
        "state": one["state"],
        "state_look": parts.look(one["state"]),
        "last_seen": one["last_seen"],
        "runs": _told(runs, len(slots)) or "nothing yet",
        "labels": _told(labels, len(one["labels"])),
        "computes": ", ".join(accelerator["name"] for accelerator in host.get("accelerators", []))[:60] or "CPU",
    }


def _phase(slot: dict[str, Any]) -> str:
    return "" if slot["phase"] == "committed" else f" ({slot['phase']})"


def _told(words: list[str], count: int) -> str:
    return ", ".join(words)[: parts.WORDS] + (f" and {count - _SHOWN} more" if count > _SHOWN else "")


class Bulk:
    """What is done to the rows that are ticked: shown first, then done one by one."""

    def __init__(self, visit: Visit, table: ui.table) -> None:
        self._visit, self._table = visit, table
        with ui.row().classes("ef-bulk") as self.bar:
            self.said = ui.label().classes("ef-strong")
            if visit.may("group:write"):
                ui.button("Label", icon="sell", on_click=self._label).props("no-caps outline")
            if visit.may("command:write"):
                ui.button("Command", icon="terminal", on_click=self._command).props("no-caps outline")
            ui.button("None", on_click=self.none).props("no-caps flat")
        self.show()

    def show(self) -> None:
        count = len(self._table.selected)
        self.bar.set_visibility(bool(count))
        self.said.set_text(f"{count} device{'s' if count != 1 else ''} chosen")

    def none(self) -> None:
        self._table.selected.clear()
        self._table.update()
        self.show()

    @property
    def chosen(self) -> list[str]:
        return sorted(str(one["id"]) for one in self._table.selected)

    async def _label(self) -> None:
        chosen = self.chosen
        with ui.dialog() as dialog, ui.card().classes("ef-ask"):
            ui.label(f"Label {len(chosen)} devices").classes("ef-title")
            given = ui.input("key=value to set, key= to take away").props("outlined dense autofocus").classes("ef-wide")
            shown = ui.column().classes("ef-rows ef-preview")
            with ui.row():
                ui.button("Label them", on_click=lambda: dialog.submit(given.value)).props("no-caps")
                ui.button("Cancel", on_click=lambda: dialog.submit("")).props("no-caps flat")
        try:
            now = await asyncio.gather(*(self._visit.get(f"devices/{one}") for one in chosen))
        except Said as said:
            refused(said)
            return

        def preview() -> None:
            shown.clear()
            with shown:
                for one in now:
                    after = labelled(one["labels"], given.value or "")
                    ui.label(f"{one['id']}: {_words(one['labels'])} → {_words(after)}").classes("ef-mono")

        given.on_value_change(preview)
        preview()
        if not (change := await dialog):
            return
        for one in now:
            body = {"labels": labelled(one["labels"], change)}
            if not await acting(self._visit.ask("PATCH", f"devices/{one['id']}", json=body)):
                break  # what is wrong with one is wrong with all
        else:
            ui.notify(f"{len(now)} devices are labelled", type="positive")
            self.none()

    async def _command(self) -> None:
        chosen = self.chosen
        with ui.dialog() as dialog, ui.card().classes("ef-ask"):
            ui.label(f"A command to {len(chosen)} devices").classes("ef-title")
            ui.label(", ".join(chosen)).classes("ef-mono ef-preview")
            for name, what in MANY.items():
                with ui.row().classes("ef-line"):
                    ui.button(name, on_click=lambda name=name: dialog.submit(name)).props("no-caps outline")
                    ui.label(what).classes("ef-soft")
            ui.button("Cancel", on_click=lambda: dialog.submit("")).props("no-caps flat")
        if name := await dialog:
            await give(self._visit, name, f"id in ({','.join(chosen)})")
            self.none()


async def give(visit: Visit, name: str, selector: str) -> None:
    """Give a command to all that a selector means, and say how many took it and who did not."""
    try:
        given = await visit.ask("POST", "commands", json={"name": name, "selector": selector})
    except Said as said:
        refused(said)
        return
    ui.notify(f"{name} was given to {len(given['commands'])} devices", type="positive")
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


def waiting(visit: Visit, found: Sequence[dict[str, Any]], done: Callable[[], Awaitable[None]]) -> None:
    """Keys that wait to be let in."""
    for one in found:
        with ui.element("div").classes("ef-need"), ui.element("div").classes("ef-need-words"):
            with ui.element("div").classes("ef-line"):
                ui.label(one["name"]).classes("ef-strong")
                ui.label(f"from {one['address']}").classes("ef-soft")
                parts.moment(one["since"]).classes("ef-soft")
            ui.label(one["fingerprint"]).classes("ef-mono")
            with ui.row():
                approve, reject = _decide(visit, one, done, "approve"), _decide(visit, one, done, "reject")
                ui.button("Let it in", on_click=approve).props("no-caps")
                ui.button("Reject", on_click=reject).props("no-caps outline color=negative")


def _decide(
    visit: Visit, one: dict[str, Any], done: Callable[[], Awaitable[None]], verb: str
) -> Callable[[], Awaitable[None]]:
    async def decide() -> None:
        if verb == "approve":
            question, yes = f"Is this what {one['name']} shows?", "It is: let it in"
            consequence = f"{one['fingerprint']}: compare every sign. Whoever has this key becomes {one['name']}."
            body = {"fingerprint": one["fingerprint"]}
        else:
            question, yes, body = f"Reject this key of {one['name']}?", "Reject", {}
            consequence = "It stays rejected, whatever bundle it brings; the device needs a new key to join."
        if await asks(question, consequence, yes):
            path = f"pending/{one['name']}/{verb}"
            words = f"{one['name']} is {'let in' if verb == 'approve' else 'rejected'}"
            await acting(visit.ask("POST", path, json=body), words)
            await done()

    return decide
