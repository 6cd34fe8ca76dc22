"""Models that were uploaded and that nobody has signed: bring one, look into it, and the command that signs it."""

import re
from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import assets, parts
from fleet.console.closed import needs
from fleet.console.frame import acting, asks, frame, live
from fleet.console.graph_parts import GraphPanel
from fleet.console.module_parts import link_of
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Said, Visit, page

_LIVE_S: Final = 15.0
_SHOWN: Final = 200
_NAMED: Final = 3


@page("/uploads")
@needs("module:read")
async def every(visit: Visit) -> None:
    with frame(visit, "Uploads", at="/modules", command="edgefleet uploads list"):
        if visit.may("module:write"):
            with parts.panel("Bring a model"):
                form = await _form(visit)
        with parts.panel("Uploaded"):
            rows = Redrawn(_draw_rows)

    async def refresh() -> None:
        found = await visit.get("uploads", unattended=True)
        if visit.may("module:write"):
            # What the browser need not send to hear that it is too much.
            form.props["data-room"] = min(found["room"], found["largest"])
        rows.show(found["uploads"])

    await live(refresh, _LIVE_S)


async def _form(visit: Visit) -> ui.element:
    ui.label(
        "It is kept here for whoever has the team's key to fetch, try and sign. Nothing of it runs on the server, and "
        "no device can get it before that."
    ).classes("ef-soft")
    ui.add_body_html(assets.script("upload.js"))
    teams = sorted({one["ref"].partition("/")[0] for one in await visit.get("modules", unattended=True)})
    with ui.element("form").props("data-upload").classes("ef-upload") as form:
        with ui.element("label").classes("ef-field"):
            ui.label("Team that will sign it")
            # Without a value of ours, which the library would put back over what somebody types.
            ui.element("input").props("name=team required maxlength=63 list=teams autocomplete=off")
        with ui.element("datalist").props("id=teams"):
            for one in teams[:_SHOWN]:
                ui.element("option").props["value"] = one
        with ui.element("label").classes("ef-field"):
            ui.label("Files: the model, and what its weights are in")
            ui.element("input").props("name=files type=file multiple required")
        ui.button("Upload").props("type=submit no-caps")
        ui.element("div").classes("ef-rows").props('data-progress role="status"')
        ui.label("").props('role="alert" data-said').classes("ef-said")
    return form


def _draw_rows(found: list[dict[str, Any]]) -> None:
    if not found:
        parts.nothing("Nothing was uploaded.", "edgefleet uploads send FILE --team TEAM")
    for one in found[:_SHOWN]:
        with ui.element("div").classes("ef-line"):
            ui.link(one["name"], f"/uploads/{one['team']}/{quote(one['digest'])}").classes("ef-strong ef-cell")
            _draw_standing(one["signed"])
            ui.label(f"for {one['team']}")
            ui.label(parts.size(one["length"]))
            ui.label(f"by {one['by']}"[: parts.WORDS]).classes("ef-soft")
            parts.moment(one["created"]).classes("ef-soft")
    if len(found) > _SHOWN:
        ui.label(f"and {len(found) - _SHOWN} older ones").classes("ef-soft")


def _draw_standing(signed: list[str]) -> None:
    """Whether somebody has signed these bytes since, and as what."""
    if not signed:
        ui.label("not signed").classes("ef-state ef-warn")
        return
    ui.label("signed in").classes("ef-state ef-good")
    for ref in signed[:_NAMED]:
        ui.link(ref, link_of(ref))
    if len(signed) > _NAMED:
        ui.label(f"and {len(signed) - _NAMED} older").classes("ef-soft")


@page("/uploads/{team}/{digest}")
@needs("module:read")
async def one(visit: Visit, team: str, digest: str) -> None:
    place = f"uploads/{quote(team[:63], safe='')}/{quote(digest[:71], safe='')}"
    await visit.about(team=team[:100])
    try:
        found = await visit.get(place, unattended=True)
    except Said as said:
        with frame(visit, "Upload", at="/modules"):
            ui.label(said.words[: parts.WORDS])
            ui.link("All uploads", "/uploads")
        return
    command = f"edgefleet uploads show {found['digest']} --team {found['team']}"
    with frame(visit, found["name"], at="/modules", command=command):
        await _draw(visit, place, found)


async def _draw(visit: Visit, place: str, found: dict[str, Any]) -> None:
    with ui.element("div").classes("ef-line"):
        _draw_standing(found["signed"])
        ui.label(parts.size(found["length"])).classes("ef-lead")
        ui.label(f"brought by {found['by']}"[: parts.WORDS])
        parts.moment(found["created"]).classes("ef-soft")
    ui.label(found["digest"]).classes("ef-mono ef-soft")
    with parts.panel("Sign it again" if found["signed"] else "Sign it"):
        _draw_signing(found)
    with parts.panel("Graph"):
        graph = GraphPanel(visit, place, f"{place}/nodes")
        await graph.show(found["graph"], "", [])
    if visit.may("module:write"):
        with ui.element("div").classes("ef-line"):
            remove = ui.button("Remove", on_click=lambda: _remove(visit, place, found["name"]))
        remove.props("outline no-caps color=negative")


def _draw_signing(found: dict[str, Any]) -> None:
    ui.label(
        "On the machine of whoever has the team's key. It fetches these very bytes and no others, tries them in the "
        "scoring server, computes the reference answers, and signs:"
    )
    digests = [found["digest"], *(one for one in found["external"].values() if one)]
    uploads = " ".join(f"--upload {one}" for one in digests)
    with ui.element("div").classes("ef-signing"):
        parts.command(
            f"edgefleet models register {uploads} --name {_name(found['name'])} --team {found['team']} --keys FOLDER"
        )
    for name in [name for name, where in found["external"].items() if not where]:
        ui.label(f"Its weights are in {name}, which was not uploaded for this team: bring it, too.").classes(
            "ef-reason"
        )
    with ui.element("div").classes("ef-line"):
        ui.label("It is kept here until it is removed, or forgotten")
        parts.moment(found["expires"]).classes("ef-strong")


def _name(file: str) -> str:
    """A model's name out of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", file.rpartition(".")[0].lower()).strip("-")[:40] or "NAME"


async def _remove(visit: Visit, place: str, name: str) -> None:
    told = "The file is deleted here. Modules that were made of it stay."
    if await asks(f"Remove {name}?", told, "Remove it") and await acting(visit.ask("DELETE", place), "It is removed."):
        ui.navigate.to("/uploads")
