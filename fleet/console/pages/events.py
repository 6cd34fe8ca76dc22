"""What happened that somebody should look at, and the audit log: who did what to what, from where."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

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
    parts.Column("what", "What", "words"),
    parts.Column("answer", "Answer", "state"),
    parts.Column("origin", "From"),
)
# Kinds that tell of an attack or of one that was stopped.
_ALARMS = ("refused", "denied", "revoked", "cloned", "copy", "untrusted", "failed", "tampered", "forged")
_PAGE = 200
_API = "/api/v1/"
_LABELS = {"kind": "Kind", "device": "Device", "by": "Who", "action": "What"}
_Shown = Callable[[dict[str, Any]], dict[str, Any]]


class _Newest:
    """A table of what was written down, the newest first: live, with older rows on demand, and as a file."""

    def __init__(
        self, visit: Visit, path: str, asked: dict[str, str], columns: Sequence[parts.Column], shown: _Shown
    ) -> None:
        self._visit, self._path, self._asked, self._shown = visit, path, asked, shown
        self._older: list[dict[str, Any]] = []
        empty = "Nothing fits these filters" if any(asked.values()) else "Nothing happened yet"
        self._table = parts.table(columns, "id", empty=empty).classes(f"ef-steady ef-{path}")
        self._more = ui.button("Older rows", on_click=self._further).props("flat no-caps")

    async def refresh(self) -> None:
        newest = await self._rows()
        older = [one for one in self._older if not newest or one["id"] < newest[-1]["id"]]
        parts.fill(self._table, newest + older)
        if not older:
            self._more.set_visibility(len(newest) == _PAGE)

    async def _rows(self, before: int = 0) -> list[dict[str, Any]]:
        asked = self._asked | {"limit": _PAGE, "before": before}
        return [self._shown(one) for one in await self._visit.get(self._path, unattended=not before, **asked)]

    async def _further(self) -> None:
        found = await self._rows(before=self._table.rows[-1]["id"])
        self._older.extend(found)
        parts.fill(self._table, [*self._table.rows, *found])
        self._more.set_visibility(len(found) == _PAGE)

    def save(self) -> None:
        ui.download.content(json.dumps(self._table.rows), f"{self._path}.json")


def _filters(path: str, given: dict[str, str], save: Callable[[], None]) -> None:
    """What is shown, by the address; and what is shown as a file."""

    def go(name: str, value: str) -> None:
        query = urlencode({key: one for key, one in (given | {name: value}).items() if one})
        ui.navigate.to(path + (f"?{query}" if query else ""))

    for name, value in given.items():
        box = ui.input(_LABELS[name], value=value, on_change=lambda e, name=name: go(name, e.value or ""))
        box.props("dense outlined debounce=600")
    ui.space()
    ui.button("Save as JSON", icon="download", on_click=save).props("flat no-caps")


def _command(words: str, given: dict[str, str]) -> str:
    return " ".join([words, *(f"--{name}={parts.quoted(value)}" for name, value in given.items() if value)])


@page("/events")
@needs("event:read")
async def events(visit: Visit, kind: str = "", device: str = "") -> None:
    """``kind`` and ``device`` are in the address, so that a link shows a colleague the same."""
    given = {"kind": kind[:100], "device": device[:63]}
    with frame(visit, "Events", at="/events", command=_command("edgefleet events", given)):
        above = ui.row().classes("ef-filters")
        newest = _Newest(visit, "events", given, _EVENTS, _event)
        with above:
            _filters("/events", given, newest.save)
            if visit.may("audit:read"):
                ui.link("Audit log", "/events/audit")
    await live(newest.refresh)


@page("/events/audit")
@needs("audit:read")
async def audit(visit: Visit, by: str = "", action: str = "") -> None:
    """``by`` is a whole name, ``action`` a part of what was done, as rollouts."""
    given = {"by": by[:300], "action": action[:300]}
    with frame(visit, "Audit log", at="/events", command=_command("edgefleet audit list", given)):
        above = ui.row().classes("ef-filters")
        newest = _Newest(visit, "audit", given, _AUDIT, _act)
        with above:
            _filters("/events/audit", given, newest.save)
            if visit.may("event:read"):
                ui.link("Events", "/events")
    await live(newest.refresh)


def _act(one: dict[str, Any]) -> dict[str, Any]:
    """What was asked of the server, in the words of its API, without those that each row has."""
    method, _, place = one["action"].partition(" ")
    target = (one["target"] or place).replace(_API, "", 1)
    # What was done on the server itself has no status.
    good = not one["outcome"] or codes.is_success(one["outcome"])
    answer, look = ("done", "good") if good else (f"{one['outcome']} {one['code']}".strip(), "bad")
    return one | {"what": f"{method} {target}"[: parts.WORDS], "answer": answer, "answer_look": look}


def _event(one: dict[str, Any]) -> dict[str, Any]:
    alarming = any(word in one["kind"] for word in _ALARMS)
    return one | {
        "message": one["message"][: parts.WORDS],
        "device": one["device"] or "",
        "device_to": f"/devices/{quote(one['device'] or '')}",
        "kind_look": "bad" if alarming else "calm",
    }
