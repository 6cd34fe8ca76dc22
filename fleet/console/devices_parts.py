"""What the list of devices is made of: its filters as they stand in the address, its rows, and who waits."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import acting, asks
from fleet.console.visit import Visit

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
        words += [f"--{name}={parts.quoted(one)}" for name in ("search", "selector") if (one := getattr(self, name))]
        words += [f"--state {one}" for one in self.state]
        return " ".join(words if self.sort == "id" else [*words, f"--sort={parts.quoted(self.sort)}"])


def row(one: dict[str, Any]) -> dict[str, Any]:
    """A device as a row: words only, and bounded."""
    slots = sorted((one["report"] or {}).get("slots", []), key=lambda slot: str(slot["slot"]))
    host = (one["facts"] or {}).get("host") or {}
    runs = [f"{slot['slot']}: {_runs(slot)}" for slot in slots[:_SHOWN]]
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


def _runs(slot: dict[str, Any]) -> str:
    """What answers in a slot, and what it is on its way to, or did not take."""
    wanted, serving = slot["module"], (slot["serving"] or {}).get("module", "")
    if slot["phase"] == "committed" and serving in ("", wanted):
        return str(wanted)
    if serving in ("", wanted):
        return f"{wanted} ({slot['phase']})"
    return f"{serving} ({wanted}: {slot['phase']})"


def _told(words: list[str], count: int) -> str:
    return ", ".join(words)[: parts.WORDS] + (f" and {count - _SHOWN} more" if count > _SHOWN else "")


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
