"""What happened that somebody should look at, and the audit log: who did what to what, from where."""

import json
from typing import Any
from urllib.parse import quote

from httpx import codes
from nicegui import ui

from fleet.console import parts
from fleet.console.closed import needs
from fleet.console.frame import frame, live
from fleet.console.visit import Visit, page

_EVENTS = (
    parts.Column("at", "When", "time"),
    parts.Column("kind", "Kind", "state"),
    parts.Column("device", "Device", "link"),
    parts.Column("message", "What happened", "words"),
    parts.Column("by", "Who"),
)
_AUDIT = (
    parts.Column("at", "When", "time"),
    parts.Column("by", "Who"),
    parts.Column("action", "What", "words"),
    parts.Column("target", "On what", "words"),
    parts.Column("outcome", "Answer", "state"),
    parts.Column("origin", "From", "words"),
)
# Kinds that tell of an attack or of one that was stopped.
_ALARMS = ("refused", "denied", "revoked", "cloned", "copy", "untrusted", "failed", "tampered", "forged")
_PAGE = 200


@page("/events")
@needs("event:read")
async def events(visit: Visit, kind: str = "", device: str = "") -> None:
    """``kind`` and ``device`` are in the address, so that a link shows a colleague the same."""
    older_rows: list[dict[str, Any]] = []

    async def asked(before: int = 0) -> list[dict[str, Any]]:
        found = await visit.get("events", limit=_PAGE, kind=kind, device=device, before=before, unattended=not before)
        return [_event(one) for one in found]

    async def refresh() -> None:
        newest = await asked()
        parts.fill(table, newest + [one for one in older_rows if not newest or one["id"] < newest[-1]["id"]])
        older.set_visibility(len(newest) == _PAGE)

    async def more() -> None:
        found = await asked(before=table.rows[-1]["id"])
        older_rows.extend(found)
        parts.fill(table, [*table.rows, *found])
        older.set_visibility(len(found) == _PAGE)

    def save() -> None:
        ui.download.content(json.dumps(table.rows), "events.json")

    command = "edgefleet events" + (f" --kind {kind}" if kind else "") + (f" --device {device}" if device else "")
    with frame(visit, "Events", at="/events", command=command):
        with ui.row().classes("ef-filters"):
            ui.input("Kind", value=kind, on_change=lambda e: _go(e.value, device)).props("dense outlined debounce=600")
            ui.input("Device", value=device, on_change=lambda e: _go(kind, e.value)).props(
                "dense outlined debounce=600"
            )
            ui.space()
            ui.button("Save as JSON", icon="download", on_click=save).props("flat no-caps")
            if visit.may("audit:read"):
                ui.link("Audit log", "/events/audit")
        table = parts.table(_EVENTS, "id").classes("ef-steady")
        older = ui.button("Older events", on_click=more).props("flat no-caps")
    await live(refresh)


@page("/events/audit")
@needs("audit:read")
async def audit(visit: Visit) -> None:
    with frame(visit, "Audit log", at="/events", command="edgefleet audit list"):
        ui.link("Events", "/events")
        table = parts.table(_AUDIT, "id").classes("ef-steady")

    async def refresh() -> None:
        found = await visit.get("audit", limit=_PAGE, unattended=True)
        parts.fill(
            table,
            [one | {"outcome_look": "good" if codes.is_success(one["outcome"]) else "bad"} for one in found],
        )

    await live(refresh)


def _event(one: dict[str, Any]) -> dict[str, Any]:
    alarming = any(word in one["kind"] for word in _ALARMS)
    return one | {
        "message": one["message"][: parts.WORDS],
        "device": one["device"] or "",
        "device_to": f"/devices/{quote(one['device'] or '')}",
        "kind_look": "bad" if alarming else "calm",
    }


def _go(kind: str, device: str) -> None:
    given = {name: value for name, value in (("kind", kind), ("device", device)) if value}
    ui.navigate.to(
        "/events" + ("?" + "&".join(f"{name}={quote(value)}" for name, value in given.items()) if given else "")
    )
