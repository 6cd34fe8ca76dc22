"""Who may use the server, tokens, join bundles, and what ends soon."""

from collections.abc import Callable
from typing import Any

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import acting, asks, frame, live, refused
from fleet.console.visit import Said, Visit, page

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


@page("/settings")
async def settings(visit: Visit) -> None:
    async def revoke() -> None:
        if not tokens.selected:
            ui.notify("Choose a token first")
            return
        chosen = tokens.selected[0]
        said = "What uses it is refused at once; tokens that were made with it go too."
        if await asks(f"Revoke the token {chosen['name']}?", said, "Revoke"):
            await acting(visit.ask("DELETE", f"tokens/{chosen['id']}"), "It is revoked")

    with frame(visit, "Settings", at="/settings", command="edgefleet tokens list"):
        with parts.panel("This server", wide=True):
            server = ui.column().classes("ef-rows")
        tables: list[tuple[str, ui.table, Callable[[dict[str, Any]], dict[str, Any]]]] = []
        if visit.may("user:read"):
            with parts.panel("People", wide=True):
                tables.append(("operators", parts.table(_PEOPLE, "name"), _person))
                parts.command("edgefleet operators add NAME --role operator")
        if visit.may("token:read"):
            with parts.panel("Tokens", wide=True):
                tokens = parts.choosing(parts.table(_TOKENS, "id"), "single")
                tables.append(("tokens", tokens, _token))
                if visit.may("token:write"):
                    with ui.row():
                        ui.button("New token", icon="add", on_click=lambda: _new_token(visit)).props("flat no-caps")
                        ui.button("Revoke", icon="block", on_click=revoke).props("flat no-caps")
        if visit.may("device:enrol"):
            with parts.panel("Join bundles", wide=True):
                ui.label("A bundle lets devices join. It is a secret; it is made and kept on the command line.")
                parts.command("edgefleet devices join --uses 10 --out bundle.json")

    async def refresh() -> None:
        told = await visit.get("/healthz", unattended=True)
        server.clear()
        with server:
            _server(told)
        for path, table, shown in tables:
            parts.fill(table, [shown(one) for one in await visit.get(path, unattended=True)])

    await live(refresh, every_s=10)


def _server(told: dict[str, Any]) -> None:
    with ui.row().classes("ef-line"):
        ui.label(f"edgefleet {told['version']}")
        parts.state("ok" if told["status"] == "ok" else "failed")
        ui.label(f"broker: {told['broker']}").classes("ef-soft")
    warnings = told["warnings"]
    for one in warnings if isinstance(warnings, list) else [f"{name}: {count}" for name, count in warnings.items()]:
        ui.label(str(one)[: parts.WORDS]).classes("ef-state ef-warn")
    for one in told["notes"]:
        ui.label(str(one)[: parts.WORDS]).classes("ef-state ef-warn")
    if told["mishaps"]:
        said = ", ".join(f"{name}: {count}" for name, count in sorted(told["mishaps"].items()))
        ui.label(f"Failed alone since the start, while all else went on: {said}").classes("ef-soft")


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
    return kept | {"roles": _roles(one["roles"])} | _looks("revoked" if one["revoked"] else "ok")


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
