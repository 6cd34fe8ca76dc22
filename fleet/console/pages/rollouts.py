"""Rollouts: all of them, and one as it goes, with why each device is not done and what can be done about it."""

import json
from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import parts, rollout_parts
from fleet.console.closed import needs
from fleet.console.frame import acting, asks, frame, live
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Visit, page, together

_PAGE: Final = 25
_DEVICES: Final = 50
_SHOWN: Final = 200
_COLUMNS: Final = (
    parts.Column("device", "Device", "link"),
    parts.Column("wave", "Wave"),
    parts.Column("standing", "State", "state"),
    parts.Column("phase", "Phase"),
    parts.Column("why", "Why, and what comes next", "words"),
)
# What stands at the head of a rollout's page.
_HEAD: Final = (
    *("module", "slot", "state", "waits_for", "stopped"),
    *("started_by", "created", "selector", "starts", "forgotten"),
)
_SKIP: Final = """<q-td :props="props"><q-btn v-if="props.row.may_skip" flat dense no-caps label="Skip"
    :aria-label="'Skip ' + props.row.device" @click="$parent.$emit('skip', props.row.device)"></q-btn></q-td>"""


@page("/rollouts")
@needs("rollout:read")
async def every(visit: Visit, before: str = "") -> None:
    with frame(visit, "Rollouts", at="/rollouts", command="edgefleet rollouts list"):
        if visit.may("rollout:write"):
            ui.link("Start a rollout", "/rollouts/new").classes("ef-go")
        rows = Redrawn(_draw_every, "ef-panel ef-rows")
        with ui.row().classes("ef-line"):
            if before:
                ui.link("Newest", "/rollouts")
            older = Redrawn(_draw_older, "")

    async def refresh() -> None:
        found = await visit.get("rollouts", limit=_PAGE, before=before or None, unattended=True)
        rows.show(found)
        older.show(found[-1]["id"] if len(found) == _PAGE else "")

    await live(refresh)


def _draw_older(last: str) -> None:
    if last:
        ui.link("Older", f"/rollouts?before={last}")


def _draw_every(found: list[dict[str, Any]]) -> None:
    if not found:
        parts.nothing(
            "No rollout yet. Sign a module, then bring it to devices in waves.",
            "edgefleet rollouts start TEAM/MODULE:1 --slot main --selector '*'",
        )
    for one in found:
        with ui.element("div").classes("ef-rollout"):
            with ui.element("div").classes("ef-line"):
                ui.link(f"{one['module']} in {one['slot']}", f"/rollouts/{one['id']}").classes("ef-strong")
                rollout_parts.state(one)
            with ui.element("div").classes("ef-line ef-soft"):
                ui.label(f"rollout {one['id']}")
                ui.label(f"by {one['started_by'][:100]}" if one["started_by"] else "")
                parts.when("started", one["created"])
            with ui.element("div"):
                parts.bar(rollout_parts.passed(one))
            if one["waits_for"]:
                ui.label(one["waits_for"][: parts.WORDS]).classes("ef-soft ef-whole")


@page("/rollouts/{rollout}")
@needs("rollout:read")
async def one(visit: Visit, rollout: str, standing: str = "", after: str = "") -> None:
    await visit.about(rollout=rollout[:100])
    await _One(visit, rollout, standing, after).show()


class _One:
    """One rollout's page; ``standing`` and ``after`` say which of its devices are shown."""

    def __init__(self, visit: Visit, rollout: str, standing: str, after: str) -> None:
        self._visit, self._number = visit, rollout[:20]
        self._path = f"rollouts/{quote(rollout, safe='')}"
        self._standing = standing if standing in rollout_parts.STANDINGS and standing != "superseded" else ""
        # By id from a device on, where all stand alike: else those that are not done come first, and there is one page.
        self._after = after[:63] if self._standing else ""

    async def show(self) -> None:
        with frame(
            self._visit,
            f"Rollout {self._number}",
            at="/rollouts",
            command=f"edgefleet rollouts show {parts.quoted(self._number)}",
        ):
            self._head = Redrawn(self._draw_head)
            self._acts = Redrawn(self._draw_acts, "ef-line")
            with parts.panel("Waves"):
                self._waves = Redrawn(rollout_parts.draw_waves)
            with parts.panel("Gates"):
                self._no_gates = ui.label("Its policy has no gates, or no wave is open yet.").classes("ef-soft")
                self._gates = _whole(parts.table(rollout_parts.GATES, "id")).classes("ef-gates")
            with parts.panel("Devices"):
                self._filters = Redrawn(self._draw_filters, "ef-line")
                self._table = self._devices()
                self._pages = Redrawn(self._draw_pages, "ef-line")
            with parts.panel("Does not fit"):
                self._misfits = Redrawn(_draw_misfits)
            with parts.panel("History"):
                self._history = Redrawn(_draw_history)
            with ui.expansion("Policy").classes("ef-panel"):
                self._policy = Redrawn(_draw_policy)
            await live(self._refresh)

    async def _refresh(self) -> None:
        more = {"standing": self._standing or None, "after": self._after, "limit": _DEVICES}
        found, gates, devices = await together(
            self._visit.get(self._path, devices=False, unattended=True),
            self._visit.get(f"{self._path}/gates", unattended=True),
            self._visit.get(f"{self._path}/devices", unattended=True, **more),
        )
        self._head.show({name: found[name] for name in _HEAD} | rollout_parts.ending(found))
        self._acts.show((rollout_parts.possible(self._visit, found), rollout_parts.waits(found)))
        self._waves.show({name: found[name] for name in ("plan", "wave", "state")})
        self._no_gates.set_visibility(not gates)
        self._gates.set_visibility(bool(gates))
        parts.fill(self._gates, rollout_parts.gate_rows(gates))
        self._filters.show({name: found["counts"][name] for name in sorted(found["counts"])})
        parts.fill(self._table, [self._row(found, one) for one in rollout_parts.worst_first(devices)])
        self._pages.show(devices[-1]["device"] if len(devices) == _DEVICES else "")
        self._misfits.show(found["misfits"])
        self._history.show(found["history"])
        self._policy.show(found["policy"])

    def _draw_head(self, found: dict[str, Any]) -> None:
        with ui.element("div").classes("ef-line"):
            ui.label(f"{found['module']} in {found['slot']}").classes("ef-title")
            rollout_parts.state(found).classes("ef-large")
        for said, classes in ((found["cause"], "ef-lead ef-cause"), (found["waits_for"] or found["last"], "ef-lead")):
            if said:
                ui.label(said[: parts.WORDS]).classes(classes)
        for one in found["stopped"]:
            ui.label(f"stopped for {one['reason']}"[: parts.WORDS]).classes("ef-said")
        with ui.element("div").classes("ef-line ef-soft"):
            ui.label(f"started by {found['started_by'][:100]}" if found["started_by"] else "started")
            parts.moment(found["created"])
            if found["selector"]:
                where = "all devices" if found["selector"] == "*" else found["selector"]
                ui.label(f"for {where}"[: parts.WORDS])
            if found["state"] == "scheduled":
                ui.label("begins")
                parts.moment(found["starts"])
            if found["forgotten"] is not None:
                ui.label("which devices it went to is not kept any more, since")
                parts.moment(found["forgotten"])

    def _draw_acts(self, shown: tuple[list[rollout_parts.Act], bool]) -> None:
        """What is to be done next stands out; an approval does only once it is waited for."""
        acts, waits = shown
        for act in acts:
            button = ui.button(act.title, on_click=lambda _, act=act: self._do(act)).props("no-caps")
            first = act is acts[0] and (waits or act.name != "approve")
            button.props("outline color=negative" if act.grave else "" if first else "outline")

    async def _do(self, act: rollout_parts.Act) -> None:
        if await asks(f"{act.title} rollout {self._number}?", act.consequence, act.title):
            done = f"Rollout {self._number}: {act.done}"
            if await acting(self._visit.ask("POST", f"{self._path}/{act.name}"), done):
                await self._refresh()

    def _devices(self) -> ui.table:
        table = _whole(parts.table(_COLUMNS, "device")).classes("ef-why")
        if self._visit.may("rollout:write"):
            table.columns.append({"name": "skip", "field": "may_skip", "label": "", "align": "right"})
            table.add_slot("body-cell-skip", _SKIP)
            table.on("skip", lambda event: self._skip(str(event.args)))
        return table

    async def _skip(self, device: str) -> None:
        with ui.dialog() as dialog, ui.card():
            ui.label(f"Leave out {device[:63]}?").classes("ef-title")
            ui.label("It gets no order, or its order is taken back, and nobody waits for it.")
            why = ui.input("Why").props("outlined autofocus maxlength=500").classes("ef-wide-field")
            with ui.row():
                ui.button("Leave it out", on_click=lambda: dialog.submit(why.value or "")).props(
                    "no-caps color=negative"
                )
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
        said = await dialog
        if said is not None:
            path = f"{self._path}/devices/{quote(device, safe='')}/skip"
            if await acting(self._visit.ask("POST", path, json={"why": said}), f"{device[:63]} is left out."):
                await self._refresh()

    def _row(self, found: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
        reason = one["why"] or (one["reason"]["message"] if one["reason"] else "")
        # What the rollout waits for stands above, in large letters, and not again beside each device.
        reason = reason.removesuffix(f": {found['waits_for']}") if found["waits_for"] else reason
        fetched = f" {100 * one['progress']:.0f} %" if one["phase"] == "fetching" and one["progress"] else ""
        return {
            "device": one["device"],
            "device_to": f"/devices/{one['device']}",
            "wave": one["wave"],
            "standing": one["standing"],
            "standing_look": rollout_parts.STANDINGS.get(one["standing"], "calm"),
            # Said once where both are the same word.
            "phase": "" if one["phase"] == one["standing"] else one["phase"][:40] + fetched,
            "why": reason[: parts.WORDS],
            "may_skip": rollout_parts.may_skip(self._visit, found, one["standing"]),
        }

    def _draw_filters(self, counts: dict[str, int]) -> None:
        here = f"/rollouts/{self._number}"
        ui.link(f"all {sum(counts.values())}", here).classes("ef-chip" + ("" if self._standing else " ef-here"))
        for name, count in counts.items():
            if name == "superseded":
                ui.label(f"{count} superseded").classes("ef-soft")
                continue
            chosen = " ef-here" if name == self._standing else ""
            ui.link(f"{count} {name}", f"{here}?standing={name}").classes(f"ef-chip{chosen}")

    def _draw_pages(self, last: str) -> None:
        here = f"/rollouts/{self._number}?standing={self._standing}"
        if self._after:
            ui.link("First devices", here)
        if last and self._standing:
            ui.link("Next devices", f"{here}&after={quote(last)}")
        elif last:
            said = f"{_DEVICES} devices, those that are not done first; choose where they stand to page through them"
            ui.label(said).classes("ef-soft")


def _whole(table: ui.table) -> ui.table:
    """A table that shows all its rows: the API has paged them."""
    table.pagination = {"rowsPerPage": 0}
    return table.classes("ef-steady").props("hide-pagination")


def _draw_misfits(misfits: list[dict[str, Any]]) -> None:
    if not misfits:
        ui.label("The module fits every device that was meant.").classes("ef-soft")
    for one in misfits[:_SHOWN]:
        with ui.element("div").classes("ef-line"):
            ui.link(one["device"], f"/devices/{one['device']}")
            ui.label("; ".join(one["reasons"])[: parts.WORDS])
    if len(misfits) > _SHOWN:
        ui.label(f"and {len(misfits) - _SHOWN} more: edgefleet rollouts show").classes("ef-soft")


def _draw_history(history: list[dict[str, Any]]) -> None:
    if not history:
        ui.label("It has devices outside of what your rights are for, or is not kept any more.").classes("ef-soft")
    for one in reversed(history[-_SHOWN:]):
        with ui.element("div").classes("ef-when"):
            parts.moment(one["at"]).classes("ef-soft")
            ui.label(one["what"][: parts.WORDS])


def _draw_policy(policy: dict[str, Any]) -> None:
    ui.label(json.dumps(policy, indent=1)[:20_000]).classes("ef-mono ef-log").props("tabindex=0")
