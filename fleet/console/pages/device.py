"""One device: how it is, what it runs, what it measured, what it is, and what it may be told."""

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

from httpx import codes
from nicegui import ui

from fleet.console import device_fit, device_parts, parts
from fleet.console.closed import needs
from fleet.console.device_commands import Commands, LogTail
from fleet.console.device_fit import DeviceFit
from fleet.console.devices_bulk import labelled
from fleet.console.frame import acting, asks, frame, live
from fleet.console.once import once
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Said, Visit, page, together

_DAY_S: Final = 86_400
# Charts are drawn anew every so many looks: telemetry comes in minutes.
_SELDOM: Final = 10


@page("/devices/{device}")
@needs("device:read")
async def device(visit: Visit, device: str, fits: str = "") -> None:
    try:
        first = await visit.get(f"devices/{quote(device, safe='')}")
    except Said as said:
        if said.status not in {codes.NOT_FOUND, codes.UNPROCESSABLE_ENTITY, codes.BAD_REQUEST}:
            raise
        with frame(visit, "No such device", at="/devices"):
            parts.nothing(said.words)
            ui.link("All devices", "/devices")
        return
    name = first["id"]
    await visit.about(device=name)
    with frame(visit, name, at="/devices", command=f"edgefleet devices show {name}"):
        sheet = _Sheet(visit, name, fits[:200], first)
    await live(sheet.refresh)
    sheet.later()


class _Sheet:
    """All panels of the page, as far as its person may see them, and how they are filled."""

    def __init__(self, visit: Visit, name: str, fits: str, first: dict[str, Any]) -> None:
        self._visit, self._name, self._looks = visit, name, 0
        # What was asked to know whether there is such a device is the first that is shown.
        self._first: dict[str, Any] | None = first
        self._header = Redrawn(lambda found: _header(visit, found, self.refresh))
        self._followed: list[Commands | LogTail] = []
        self._happened: Redrawn | None = None
        self._later: list[Callable[[], Awaitable[None]]] = []
        with ui.element("div").classes("ef-grid"):
            with parts.panel("Modules", wide=True):
                self._slots = Redrawn(device_parts.slots)
            with parts.panel("The last day", wide=True):
                self._charts = device_parts.Charts()
            if visit.may("command:read"):
                with parts.panel("Commands"):
                    self._followed.append(Commands(visit, name))
            if visit.may("command:write") and visit.may("log:read"):
                with parts.panel("Log of a module"):
                    self._followed.append(LogTail(visit, name))
            if visit.may("module:read"):
                with parts.panel("Does a module fit?"):
                    self._later.append(DeviceFit(visit, name, fits).offer)
            with parts.panel("Hardware"):
                self._facts = Redrawn(lambda found: device_parts.facts(*found))
            with parts.panel("Certificates"):
                self._certificate = Redrawn(_certificate)
                self._given = Redrawn(device_fit.given)
            if visit.may("device:write"):
                _parting(visit, name)
            if visit.may("event:read"):
                with parts.panel("History", wide=True):
                    self._happened = Redrawn(device_parts.happened)

    def later(self) -> None:
        """Asks once the page is there: what waits for a browser before would have it shown half empty."""
        for one in self._later:
            ui.timer(0.1, one, once=True)

    async def refresh(self) -> None:
        found, self._first = self._first, None
        if found is None:
            found = await self._visit.get(f"devices/{self._name}", unattended=True)
        shown = ("id", "state", "last_seen", "labels", "removed", "removed_by")
        self._header.show({key: found.get(key) for key in shown})
        self._slots.show(found["report"])
        self._facts.show((found["facts"], found["report"]))
        self._certificate.show({key: found[key] for key in ("certificate", "revoked", "enrolled")})
        names = [one["slot"] for one in (found["report"] or {}).get("slots", [])]
        for panel in self._followed:
            panel.slots(names)
        seldom = self._seldom(found) if self._looks % _SELDOM == 0 else ()
        await together(*(panel.refresh() for panel in self._followed), *seldom)
        self._looks += 1

    def _seldom(self, found: dict[str, Any]) -> Iterator[Awaitable[None]]:
        if found.get("removed") is None:
            yield self._measured()
            yield self._certified()
        if self._happened:
            yield self._past(self._happened, found["report"])

    async def _measured(self) -> None:
        since = time.time() - _DAY_S
        told = await self._visit.get(f"devices/{self._name}/telemetry", unattended=True, since=since)
        self._charts.show(told["history"])

    async def _certified(self) -> None:
        self._given.show(await self._visit.get(f"devices/{self._name}/certificates", unattended=True))

    async def _past(self, happened: Redrawn, report: dict[str, Any] | None) -> None:
        happened.show(await _history(self._visit, self._name, report))


async def _history(visit: Visit, name: str, report: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Events of the device, what was decided for its slots, and what it says that it refused."""
    events, decisions = await together(
        visit.get("events", device=name, limit=30, unattended=True),
        visit.get(f"devices/{name}/decisions", limit=30, unattended=True),
    )
    decided = [
        {
            "at": one["at"],
            "kind": "decided",
            "message": f"{one['slot']}: {one['module'] or 'emptied'}, by {one['by'] or 'the server'}",
            "to": f"/rollouts/{one['rollout']}" if one["rollout"] else "",
        }
        for one in decisions
    ]
    refusals = [
        {"at": one["at"], "kind": f"refused {one['what']}"[:100], "message": one["reason"]["message"]}
        for one in (report or {}).get("refusals", [])
    ]
    return sorted([*events, *decided, *refusals], key=lambda one: -one["at"])[:40]


def _header(visit: Visit, found: dict[str, Any], done: Any) -> None:
    with ui.element("div").classes("ef-line ef-device"):
        parts.state("removed" if found["removed"] else found["state"]).classes("ef-large")
        parts.when("seen", found["last_seen"])
        for key, value in sorted(found["labels"].items()):
            ui.link(f"{key}={value}", f"/devices?selector={key}%3D{value}").classes("ef-label")
        if not found["labels"]:
            ui.label("no labels").classes("ef-soft")
        if visit.may("device:try") and not found["removed"]:
            ui.link("Try a module", f"/try?device={found['id']}")
        if visit.may("group:write") and not found["removed"]:
            ui.button("Labels", icon="edit", on_click=once(lambda: _label(visit, found, done))).props(
                "flat dense no-caps"
            )
    if found["removed"]:
        ui.label(f"It was taken out of the fleet by {found['removed_by'] or 'an operator'}").classes("ef-reason")


async def _label(visit: Visit, found: dict[str, Any], done: Any) -> None:
    """Its labels as they are typed; the API says what is wrong with them."""
    with ui.dialog() as dialog, ui.card().classes("ef-ask"):
        ui.label(f"Labels of {found['id']}").classes("ef-title")
        now = "\n".join(f"{key}={value}" for key, value in sorted(found["labels"].items()))
        given = ui.textarea("One key=value a line", value=now).props("outlined autofocus").classes("ef-wide-field")
        with ui.row():
            ui.button("Save", on_click=lambda: dialog.submit(given.value)).props("no-caps")
            ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
    if (typed := await dialog) is None:
        return
    body = {"labels": labelled({}, typed)}
    if await acting(visit.ask("PATCH", f"devices/{found['id']}", json=body), "The labels are saved"):
        await acting(done())


def _certificate(found: dict[str, Any]) -> None:
    one = found["certificate"]
    if found["revoked"] is not None:
        parts.fields([("Revoked", found["revoked"])])
        ui.label("It comes back with a new key: edgefleet devices readmit").classes("ef-soft")
    elif one is None:
        parts.nothing("It has none.")
    else:
        ends = [("Ends", float(one["ends"])), ("Renewal due", float(one["renewal_due"]))]
        parts.fields([*ends, ("Serial number", one["serial"]), ("Joined", float(found["enrolled"]))])


def _parting(visit: Visit, name: str) -> None:
    """Taking its certificates back, and taking it out of the fleet."""

    async def revoke() -> None:
        said = "The broker refuses it at once. It comes back with a new key alone, after: edgefleet devices readmit."
        if await asks(f"Revoke {name}?", said, "Revoke"):
            await acting(visit.ask("POST", f"devices/{name}/revoke"), f"{name} is revoked")

    async def remove() -> None:
        said = "It gets no more orders, and its certificate connects no more. What it runs goes on, unwatched."
        sure = await asks(f"Take {name} out of the fleet?", said, "Take it out")
        if sure and await acting(visit.ask("DELETE", f"devices/{name}"), f"{name} is removed"):
            ui.navigate.to("/devices")

    with parts.panel("Revoke or take out"), ui.row():
        ui.button("Revoke its certificates", icon="block", on_click=revoke).props("no-caps outline color=negative")
        ui.button("Take it out of the fleet", icon="delete", on_click=remove).props("no-caps outline color=negative")
