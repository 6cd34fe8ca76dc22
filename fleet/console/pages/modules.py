"""Modules: every model with its versions, one version as it is, and what differs between two."""

from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import module_parts, parts
from fleet.console.closed import needs
from fleet.console.frame import acting, asks, frame, live, refused
from fleet.console.graph_parts import GraphPanel
from fleet.console.profile_parts import draw_profiles
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Said, Visit, page, together
from modules import samples
from modules.errors import EdgefleetError

_LIVE_S: Final = 15.0
_NEWEST: Final = 5
_DEVICES: Final = 50
_FILES: Final = 200
_SAMPLES: Final = 20
_DIFFERENCES: Final = 500
# Samples are read into this page's memory.
_LARGEST: Final = 2 << 20


@page("/modules")
@needs("module:read")
async def every(visit: Visit, search: str = "") -> None:
    with frame(visit, "Modules", at="/modules", command="edgefleet modules list"):
        with ui.row().classes("ef-filters"):
            wanted = ui.input("Filter by name", value=search[:100]).props("outlined dense clearable")
            ui.space()
            ui.link("Upload a model" if visit.may("module:write") else "Uploads", "/uploads").classes("ef-lead-to")
        rows = Redrawn(_draw_models, "ef-column")

    async def refresh(*, unattended: bool = True) -> None:
        paths = ("modules", "module-devices") if visit.may("device:read") else ("modules",)
        found, *where = await together(*(visit.get(one, unattended=unattended) for one in paths))
        text = (wanted.value or "").strip().lower()
        chosen = [one for one in found if text in one["ref"].lower()]
        rows.show((bool(found), chosen, where[0] if where else None))

    async def filtered() -> None:
        ui.navigate.history.replace(f"/modules?search={quote(wanted.value or '')}")
        await refresh(unattended=False)

    wanted.on_value_change(filtered)
    await live(refresh, _LIVE_S)


def _draw_models(shown: tuple[bool, list[dict[str, Any]], dict[str, Any] | None]) -> None:
    some, found, where = shown
    if not found:
        parts.nothing(
            "No module has such a name." if some else "No module yet. Register a model, then sign it.",
            "" if some else "edgefleet models register MODEL.onnx --name NAME --team TEAM",
        )
    models: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        models.setdefault(one["ref"].partition(":")[0], []).append(one)
    for model, versions in models.items():
        with parts.panel(model):
            for one in versions[:_NEWEST]:
                _draw_version(one, where)
            if len(versions) > _NEWEST:
                with ui.expansion(f"{len(versions) - _NEWEST} older versions").classes("ef-whole"):
                    for one in versions[_NEWEST:]:
                        _draw_version(one, where)


def _draw_version(one: dict[str, Any], where: dict[str, Any] | None) -> None:
    ref, signed = one["ref"], one["state"] == "signed"
    with ui.element("div").classes("ef-version"):
        ui.link(f"version {ref.rpartition(':')[2]}", module_parts.link_of(ref)).classes("ef-strong")
        said = f"signed by team {ref.partition('/')[0]}" if signed else "draft: nobody signed it"
        ui.label(said).classes("ef-state ef-" + ("good" if signed else "warn"))
        ui.label(parts.size(one["bytes"]))
        parts.moment(one["created"]).classes("ef-soft")
        if where is not None:
            with ui.element("div"):
                _draw_share(where["modules"].get(ref, 0), where["devices"])


def _draw_share(here: int, every_one: int) -> None:
    if here:
        parts.bar([(f"of {every_one} devices", here, "calm"), ("others", max(every_one - here, 0), "left")])
    else:
        ui.label("on no device").classes("ef-soft")


@page("/modules/{team}/{name}/{version}")
@needs("module:read")
async def one(visit: Visit, team: str, name: str, version: str, after: str = "") -> None:
    await visit.about(team=team[:100])
    await _One(visit, f"{team}/{name}:{version}"[:200], after[:63]).show()


class _One:
    """One version's page."""

    def __init__(self, visit: Visit, ref: str, after: str) -> None:
        self._visit, self._ref, self._after = visit, ref, after
        self._path = "modules/" + "/".join(quote(one, safe="") for one in ref.replace(":", "/").split("/"))
        self._found: dict[str, Any] = {}

    async def show(self) -> None:
        with frame(self._visit, self._ref, at="/modules", command=f"edgefleet modules show {parts.quoted(self._ref)}"):
            self._head = Redrawn(self._draw_head)
            self._acts = Redrawn(self._draw_acts, "ef-line ef-level")
            with parts.panel("Where it is to run"):
                self._places = Redrawn(self._draw_places)
            with ui.element("div").classes("ef-grid"):
                with parts.panel("Files"):
                    self._files = Redrawn(lambda manifest: module_parts.draw_files(manifest, _FILES))
                with parts.panel("Needs"):
                    self._needs = Redrawn(module_parts.draw_needs)
                with parts.panel("Serves"):
                    self._serves = Redrawn(module_parts.draw_serves)
            with parts.panel("Graph"):
                self._graph = GraphPanel(self._visit, f"{self._path}/graph", f"{self._path}/graph/nodes")
            with parts.panel("Measured"):
                self._profiles = Redrawn(draw_profiles)
            with parts.panel("Samples"):
                self._samples = Redrawn(self._draw_samples)
            await live(self._refresh, _LIVE_S)

    async def _refresh(self) -> None:
        visit = self._visit
        found, every_one, where, profiles, _ = await together(
            visit.get(self._path, unattended=True),
            visit.get("modules", unattended=True),
            self._where(),
            visit.get(f"{self._path}/profiles", unattended=True),
            self._graph.refresh(),
        )
        self._found = found
        others = [one["ref"] for one in every_one]
        model = self._ref.partition(":")[0]
        manifest = module_parts.whole(found["manifest"])
        self._head.show(found)
        self._acts.show([one for one in others if one.startswith(f"{model}:") and one != self._ref])
        self._places.show(where)
        for part in (self._files, self._needs, self._serves, self._samples):
            part.show(manifest)
        self._profiles.show((self._ref, profiles))

    async def _where(self) -> dict[str, Any]:
        """Devices and endpoints, as far as this person may see either."""
        visit, found = self._visit, dict[str, Any]()
        asked = []
        if visit.may("device:read"):
            more = {"after": self._after, "limit": _DEVICES}
            asked.append(visit.get("module-devices", unattended=True))
            asked.append(visit.get(f"{self._path}/devices", unattended=True, **more))
        if visit.may("endpoint:read"):
            asked.append(visit.get("endpoints", unattended=True))
        answers = await together(*asked)
        if visit.may("device:read"):
            counted, places, *answers = answers
            found |= counted | {"places": places}
        for every_one in answers:
            serving = [(one["name"], one["versions"].values()) for one in every_one]
            found["endpoints"] = [name for name, all_ in serving if any(one["module"] == self._ref for one in all_)]
        return found

    def _draw_head(self, found: dict[str, Any]) -> None:
        signed = found["state"] == "signed"
        with ui.element("div").classes("ef-line"):
            ui.label(found["state"]).classes("ef-state ef-large ef-" + ("good" if signed else "warn"))
            ui.label(parts.size(found["bytes"])).classes("ef-lead")
            parts.moment(found["created"]).classes("ef-soft")
        if said := found["manifest"].get("description"):
            ui.label(said[: parts.WORDS])
        for key in found["signers"]:
            with ui.element("div").classes("ef-line"):
                ui.label(f"signed by team {self._ref.partition('/')[0]} with key")
                ui.label(key).classes("ef-mono")
        if not signed:
            ui.label("Nobody vouches for it yet, and it cannot be rolled out. Whoever has the team's key signs it:")
            parts.command(f"edgefleet modules sign {self._ref} --keys FOLDER")
        ui.label(found["digest"]).classes("ef-mono ef-soft")

    def _draw_acts(self, others: list[str]) -> None:
        visit = self._visit
        if self._found["state"] == "signed" and visit.may("rollout:write"):
            ui.link("Roll out", f"/rollouts/new?module={quote(self._ref)}").classes("ef-go")
        if self._found["state"] == "signed" and (visit.may("device:try") or visit.may("endpoint:try")):
            ui.link("Try it", f"/try?module={quote(self._ref)}")
        if others:
            here = module_parts.link_of(self._ref)
            versions = [one.rpartition(":")[2] for one in others]
            chosen = ui.select(versions, label="Compare with version").props("outlined dense stack-label")
            chosen.classes("ef-compare")
            chosen.on_value_change(lambda: ui.navigate.to(f"{here}/compare?to={quote(chosen.value)}"))
        if visit.may("module:write"):
            ui.button("Remove", on_click=self._remove).props("outline no-caps color=negative")

    async def _remove(self) -> None:
        told = "Its files are deleted, and its number is never given again. It is refused while anything uses it."
        if not await asks(f"Remove {self._ref}?", told, "Remove it"):
            return
        if await acting(self._visit.ask("DELETE", self._path), f"{self._ref} is removed."):
            ui.navigate.to("/modules")

    def _draw_places(self, found: dict[str, Any]) -> None:
        places = found.get("places", [])
        if "modules" in found:
            _draw_share(found["modules"].get(self._ref, 0), found["devices"])
        with ui.element("div").classes("ef-many"):
            for one in places:
                with ui.element("div").classes("ef-line"):
                    ui.link(one["device"], f"/devices/{one['device']}")
                    parts.state("online" if one["online"] else "offline")
                    ui.label(", ".join(one["slots"])).classes("ef-soft")
        here = module_parts.link_of(self._ref)
        if self._after:
            ui.link("First devices", here)
        if len(places) == _DEVICES:
            ui.link("Next devices", f"{here}?after={quote(places[-1]['device'])}")
        for name in found.get("endpoints", []):
            with ui.element("div").classes("ef-line"):
                ui.label("endpoint").classes("ef-soft")
                ui.link(name, f"/endpoints/{quote(name)}")

    def _draw_samples(self, manifest: dict[str, Any]) -> None:
        proof = manifest["proof"]
        file = next((one for one in manifest["files"] if one["path"] == proof["samples"]), None)
        if proof["prove"] == "ready-only" or file is None:
            ui.label("It brings none along: devices check no more than that it is ready.").classes("ef-soft")
        elif not self._visit.may("blob:read"):
            ui.label("Your roles read no files of modules (blob:read).").classes("ef-soft")
        elif file["length"] > _LARGEST:
            ui.label(f"They are {parts.size(file['length'])}; this reads them to your machine:")
            parts.command(f"edgefleet models download {self._ref} --to FOLDER")
        else:
            shown = ui.column().classes("ef-column")
            with shown:
                ui.button("Show the samples", on_click=lambda: self._show_samples(shown, file["sha256"])).props(
                    "flat no-caps"
                )

    async def _show_samples(self, place: ui.column, digest: str) -> None:
        try:
            found = samples.decode(await self._visit.get(f"blobs/{quote(digest)}")).samples
        except Said as said:
            refused(said)
            return
        except EdgefleetError as error:
            ui.notify(str(error)[: parts.WORDS], type="negative")
            return
        place.clear()
        with place:
            for one in found[:_SAMPLES]:
                module_parts.draw_sample(one)
            if len(found) > _SAMPLES:
                ui.label(f"and {len(found) - _SAMPLES} more").classes("ef-soft")


@page("/modules/{team}/{name}/{version}/compare")
@needs("module:read")
async def compare(visit: Visit, team: str, name: str, version: str, to: str = "") -> None:
    """What the second version has other than the first."""
    model = f"{team}/{name}"[:130]
    with frame(visit, f"{model}: {to[:40]} and {version[:40]}", at="/modules"):
        with ui.element("div").classes("ef-line"):
            ui.link(f"version {to[:40]}", module_parts.link_of(f"{model}:{to[:40]}"))
            ui.label("before,")
            ui.link(f"version {version[:40]}", module_parts.link_of(f"{model}:{version[:40]}"))
            ui.label("after")
        with parts.panel("What differs"):
            shown = Redrawn(_draw_differences, "ef-column")

    async def refresh() -> None:
        before, after = [
            await visit.get("/".join(("modules", *(quote(part, safe="") for part in (team, name, one)))))
            for one in (to, version)
        ]
        shown.show((before, after))

    try:
        await refresh()
    except Said as said:
        refused(said)


def _draw_differences(two: tuple[dict[str, Any], dict[str, Any]]) -> None:
    before, after = two
    found = module_parts.differences(*(module_parts.whole(one["manifest"]) for one in two))
    grown = after["bytes"] - before["bytes"]
    size = f"{parts.size(abs(grown))} {'larger' if grown > 0 else 'smaller'}" if grown else "the same size"
    ui.label(f"{len(found)} difference{'' if len(found) == 1 else 's'}; {size}").classes("ef-lead")
    for one in found[:_DIFFERENCES]:
        with ui.element("div").classes("ef-difference"):
            ui.label(one.where[: parts.WORDS]).classes("ef-strong")
            ui.label(one.before[: parts.WORDS] or "not there").classes("ef-mono ef-before")
            ui.label(one.after[: parts.WORDS] or "not there any more").classes("ef-mono ef-after")
    if len(found) > _DIFFERENCES:
        ui.label(f"and {len(found) - _DIFFERENCES} more").classes("ef-soft")
