"""How the server stands, who may use it, tokens and join bundles."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from nicegui import ui

from fleet.console import joining, parts, settings_parts
from fleet.console.closed import needs
from fleet.console.frame import acting, asks, frame, live, refused
from fleet.console.once import once
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Said, Visit, page, together

_PEOPLE = (
    parts.Column("name", "Name"),
    parts.Column("roles", "May"),
    parts.Column("standing", "Standing", "state"),
    parts.Column("last_login", "Last logged in", "time"),
)
_TOKENS = (
    parts.Column("name", "Name"),
    parts.Column("operator", "Of"),
    parts.Column("roles", "May"),
    parts.Column("standing", "Standing", "state"),
    parts.Column("expires", "Ends", "time"),
    parts.Column("last_used", "Last used", "time"),
)
_BUNDLES = (
    parts.Column("id", "Number"),
    parts.Column("kind", "Kind"),
    parts.Column("standing", "Standing", "state"),
    parts.Column("left", "May still join"),
    parts.Column("labels", "Labels"),
    parts.Column("by", "Made by"),
    parts.Column("expires", "Ends", "time"),
)


@page("/settings")
@needs("token:read")
async def settings(visit: Visit) -> None:
    with frame(visit, "Settings", at="/settings", command="edgefleet status"), ui.element("div").classes("ef-grid"):
        with parts.panel("This server", wide=True):
            server = Redrawn(settings_parts.warned)
        stands, lists = _Standing(visit), _Lists(visit)

    async def refresh() -> None:
        told, *_ = await together(visit.get("/healthz", unattended=True), stands.refresh(), lists.refresh())
        server.show(told)

    await live(refresh, every_s=10)
    stands.later()


class _Lists:
    """People, tokens and bundles, as far as its person may see each, and what is taken back of them."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._tables: list[tuple[str, ui.table, Callable[[dict[str, Any]], dict[str, Any]]]] = []
        if visit.may("user:read"):
            with parts.panel("People", wide=True):
                self._tables.append(("operators", parts.table(_PEOPLE, "name").classes("ef-steady ef-people"), _person))
                parts.command("edgefleet operators add NAME --role operator")
        if visit.may("token:read"):
            with parts.panel("Tokens", wide=True):
                self._tokens()
        if visit.may("device:enrol"):
            with parts.panel("Join bundles", wide=True):
                self._bundles()

    async def refresh(self) -> None:
        answers = await together(*(self._visit.get(path, unattended=True) for path, _, _ in self._tables))
        for (_, table, shown), found in zip(self._tables, answers, strict=True):
            parts.fill(table, [shown(one) for one in found])

    def _tokens(self) -> None:
        table = parts.choosing(parts.table(_TOKENS, "id").classes("ef-steady ef-tokens"), "single")
        self._tables.append(("tokens", table, _token))

        async def revoke() -> None:
            chosen = table.selected[0]
            said = "What uses it is refused at once; tokens that were made with it go too."
            if await asks(f"Revoke the token {chosen['name']}?", said, "Revoke"):
                await acting(self._visit.ask("DELETE", f"tokens/{chosen['id']}"), "It is revoked")

        with ui.row().classes("ef-level"):
            if self._visit.may("token:write"):
                ui.button("New token", icon="add", on_click=once(lambda: _new_token(self._visit))).props("flat no-caps")
                _once_chosen(table, ui.button("Revoke", icon="block", on_click=revoke).props("flat no-caps"))
            parts.command("edgefleet tokens list")

    def _bundles(self) -> None:
        ui.label("A bundle lets devices join. It is a secret, shown once to whoever makes it and kept nowhere.")
        table = parts.table(_BUNDLES, "id", empty="No bundle was made yet").classes("ef-steady ef-bundles")
        parts.choosing(table, "single")
        self._tables.append(("joins", table, _bundle))

        async def take_back() -> None:
            chosen = table.selected[0]
            said = "Nobody joins with it any more; who has joined stays."
            if await asks(f"Take the {chosen['kind']} {chosen['id']} back?", said, "Take it back"):
                await acting(self._visit.ask("DELETE", f"joins/{chosen['id']}"), "It is taken back")

        with ui.row().classes("ef-level"):
            _once_chosen(table, ui.button("Take it back", icon="undo", on_click=take_back).props("flat no-caps"))
            joining.offer(self._visit)
            parts.command("edgefleet devices join --uses 10 --out bundle.json")


def _once_chosen(table: ui.table, button: ui.button) -> None:
    """A button that does something with the row that is chosen."""
    button.disable()
    table.on_select(lambda _: button.set_enabled(bool(table.selected)))


class _Standing:
    """Keys, certificates, broker and settings, as far as its person may see each."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._filled: list[tuple[str, list[Callable[[Any], None]]]] = []
        self._later: list[Callable[[], Awaitable[None]]] = []
        if visit.may("trust:read"):
            with parts.panel("Signing keys", wide=True):
                self._filled.append(("trust-roles", [settings_parts.Keys().show]))
                parts.command("edgefleet keys status")
        if visit.may("device:read"):
            with parts.panel("Certificates", wide=True):
                self._filled.append(("certificates", [Redrawn(settings_parts.certificates).show]))
                parts.command("edgefleet server certificates")
        if visit.may("setting:read"):
            with parts.panel("Broker", wide=True):
                broker = settings_parts.Broker(visit)
                self._later.append(broker.look)
            with parts.panel("What is kept, and how long", wide=True):
                kept, every = Redrawn(settings_parts.kept), settings_parts.Settings()
                self._filled.append(("settings", [kept.show, every.show]))

    def later(self) -> None:
        """Looks that take seconds, once the page is there."""
        for one in self._later:
            ui.timer(0.1, one, once=True)

    async def refresh(self) -> None:
        answers = await together(*(self._visit.get(path, unattended=True) for path, _ in self._filled))
        for (_, shows), found in zip(self._filled, answers, strict=True):
            for show in shows:
                show(found)


async def _new_token(visit: Visit) -> None:
    with ui.dialog() as dialog, ui.card():
        ui.label("New token").classes("ef-title")
        ui.label("It may do what you may, for as long as the server gives tokens, and is shown once.")
        name = ui.input("Name").props("outlined dense autofocus maxlength=60")
        with ui.row():
            ui.button("Make it", on_click=lambda: dialog.submit(name.value)).props("no-caps")
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("flat no-caps")
    if not (wanted := await dialog):
        return
    try:
        made = await visit.ask("POST", "tokens", json={"name": wanted})
    except Said as said:
        refused(said)
        return
    with ui.dialog(value=True).props("persistent") as shown, ui.card():
        ui.label("Keep it now: it is not shown again").classes("ef-title")
        ui.label(made["token"]).classes("ef-mono")
        ui.button("I have it", on_click=shown.close).props("no-caps")


def _person(one: dict[str, Any]) -> dict[str, Any]:
    standing = "disabled" if one["disabled"] else "has to change the password" if one["must_change_password"] else "ok"
    return {"name": one["name"], "roles": _roles(one["roles"]), "last_login": one["last_login"]} | _looks(standing)


def _token(one: dict[str, Any]) -> dict[str, Any]:
    kept = {name: one[name] for name in ("id", "name", "operator", "expires", "last_used")}
    if not one["operator"]:
        kept["operator"] = "this server's machine"
    return kept | {"roles": _roles(one["roles"])} | _looks("revoked" if one["revoked"] else "ok")


def _bundle(one: dict[str, Any]) -> dict[str, Any]:
    over = one["expires"] is not None and one["expires"] <= time.time()
    spent = one["uses_left"] is not None and one["uses_left"] < 1
    standing = "revoked" if one["revoked"] else "ended" if over else "used" if spent else "ready"
    left = "any number" if one["uses_left"] is None else f"{one['uses_left']} of {one['uses']}"
    labels = ", ".join(f"{key}={value}" for key, value in sorted(one["labels"].items()))
    kept = {name: one[name] for name in ("id", "kind", "by", "expires")}
    return kept | {"left": left, "labels": labels} | _looks(standing)


def _looks(standing: str) -> dict[str, str]:
    return {"standing": standing, "standing_look": parts.look(standing) if standing != "disabled" else "bad"}


def _roles(given: list[dict[str, Any]]) -> str:
    """Each role, and where it holds unless that is everywhere."""
    found = []
    for one in given:
        where = [one["selector"]] if one.get("selector", "*") != "*" else []
        where += [f"team {team}" for team in one.get("teams") or ()]
        found.append(one["role"] + (f" ({', '.join(where)})" if where else ""))
    return ", ".join(found)
