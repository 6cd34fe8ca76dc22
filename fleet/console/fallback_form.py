"""A policy of fallbacks as somebody makes or changes it: nothing is set before they have seen whose orders change."""

import json
import shlex
from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import acting
from fleet.console.visit import Said, Visit

CASES: Final = {
    "unplaceable": "the module does not fit the device",
    "unhealthy": "the module does not answer",
    "overloaded": "it has more to do than it can",
}
_SHOWN: Final = 20
_MINUTE_S: Final = 60
# Of a policy's terms those with a field of their own here; whatever else it says is kept as it is.
_FIELDS: Final = ("when", "requests_a_day", "waiting", "latency_ms")


def path_of(model: str) -> str:
    """Where the API has the policies of a model, team/name."""
    team, _, name = model.partition("/")
    return f"fallbacks/{quote(team, safe='')}/{quote(name, safe='')}"


class FallbackForm:
    """A dialog; ``policy`` is the one to change, None: a new one."""

    def __init__(self, visit: Visit, endpoint: str, model: str, policy: dict[str, Any] | None) -> None:
        self._visit, self._endpoint, self._model, self._policy = visit, endpoint, model, policy
        self._seen: dict[str, Any] | None = None

    async def ask(self) -> bool:
        """Whether a policy was set."""
        title = f"{'Change' if self._policy else 'New'} fallback of {self._model}"
        with ui.dialog() as dialog, ui.card().classes("ef-ask"):
            dialog.props["aria-label"] = title
            ui.label(title).classes("ef-title")
            self._draw_fields()
            self._told = ui.column().classes("ef-rows").props('role="status"').style("flex: none")
            with ui.row():
                ui.button("Preview", on_click=self._preview).props("no-caps outline")
                self._yes = ui.button("Set it", on_click=lambda: self._set(dialog)).props("no-caps")
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
        self._changed()
        return bool(await dialog)

    def _draw_fields(self) -> None:
        given = self._policy or {}
        terms = given.get("terms", {})
        self._group = ui.input("Devices, by label: * for all, or site=berlin", value=given.get("group", "*"))
        self._group.props("outlined dense").classes("ef-wide-field")
        if self._policy:
            self._group.props("readonly")
        who = {"endpoint": f"Endpoint {self._endpoint} answers", "never": "Nobody answers, ever"}
        self._who = ui.radio(who, value="endpoint").props("inline")
        self._who.props["aria-label"] = "Who answers instead of them"
        when = given.get("when", ["unplaceable", "unhealthy"])
        with ui.column().classes("ef-rows") as self._terms:
            self._when = {case: ui.checkbox(f"when {said}", value=case in when) for case, said in CASES.items()}
            ui.label("What is left empty has no bound; overloaded is then from 16 waiting requests on.").classes(
                "ef-soft"
            )
            with ui.element("div").classes("ef-fields"):
                self._requests = _number("Requests a day, each device", terms.get("requests_a_day"))
                self._money = _number("Money a day", given.get("money_a_day") or None)
                self._waiting = _number("Overloaded: so many requests wait", terms.get("waiting"))
                self._latency = _number("Overloaded: an answer takes ms", terms.get("latency_ms"))
                self._on_demand = ui.switch("Runs only while a device needs it", value=given.get("on_demand", False))
                self._linger = _number("and so many minutes longer", given.get("linger_s", 900) / _MINUTE_S)
        for one in (self._group, self._who, *self._when.values(), self._requests, self._money, self._waiting,
                    self._latency, self._on_demand, self._linger):  # fmt: skip
            one.on_value_change(self._changed)

    def _body(self) -> dict[str, Any]:
        """The policy as the API takes it."""
        group = (self._group.value or "").strip()
        if self._who.value == "never":
            return {"group": group, "fallback": "", "terms": {"when": []}}
        before = self._policy or {}
        terms = {name: value for name, value in before.get("terms", {}).items() if name not in _FIELDS}
        terms |= {"ca": before["ca"]} if before.get("ca") else {}
        terms["when"] = [case for case, field in self._when.items() if field.value]
        for name, field in (("requests_a_day", self._requests), ("waiting", self._waiting)):
            terms |= {name: int(field.value)} if field.value is not None else {}
        terms |= {"latency_ms": self._latency.value} if self._latency.value is not None else {}
        return {
            "group": group,
            "fallback": f"endpoint:{self._endpoint}",
            "terms": terms,
            "on_demand": bool(self._on_demand.value),
            "linger_s": round((self._linger.value or 0) * _MINUTE_S),
            "money_a_day": float(self._money.value or 0),
        }

    def _changed(self) -> None:
        """What was seen is another one."""
        self._seen = None
        self._terms.set_visibility(self._who.value == "endpoint")
        self._yes.set_enabled(False)
        self._told.clear()
        with self._told:
            ui.label("Nothing is set before you have seen whose orders change.").classes("ef-soft")

    async def _preview(self) -> None:
        body = self._body()
        try:
            found = await self._visit.ask("POST", f"{path_of(self._model)}/preview", json=body)
        except Said as said:
            self._told.clear()
            with self._told:
                ui.label(said.words[: parts.WORDS]).classes("ef-reason").props('role="alert"')
            return
        if body != self._body():
            return
        self._seen = body | {"group": found["group"]}
        self._yes.set_enabled(True)
        self._told.clear()
        with self._told:
            _draw(found)
            parts.command(_command(self._model, self._endpoint, self._seen))

    async def _set(self, dialog: ui.dialog) -> None:
        if self._seen is not None:
            done = "It is set: the orders are made anew, and no module is proved again"
            if await acting(self._visit.ask("PUT", path_of(self._model), json=self._seen), done):
                dialog.submit(True)  # noqa: FBT003 - what the dialog answers


def _number(label: str, value: float | None) -> Any:
    return ui.number(label, value=value, min=0).props("outlined dense clearable debounce=200")


def _draw(found: dict[str, Any]) -> None:
    """Whose orders change, and how."""
    slots, devices = found["slots"], found["devices"]
    orders = f"{slots} order{'' if slots == 1 else 's'} on {devices} device{'' if devices == 1 else 's'} will change."
    ui.label(orders if slots else "No order changes.").classes("ef-strong")
    if others := found["unchanged"]:
        ui.label(f"{others} more of this group stay as they are.").classes("ef-soft")
    for version, why in found["refused"].items():
        ui.label(f"Not for {version}: {why}"[: parts.WORDS]).classes("ef-reason")
    for one in found["named"][:_SHOWN]:
        with ui.element("div").classes("ef-line"):
            ui.label(f"{one['device']}, {one['slot']}").classes("ef-strong")
            ui.label(one["before"][: parts.WORDS]).classes("ef-before")
            ui.label("→")
            ui.label(one["after"][: parts.WORDS]).classes("ef-after")
    if slots > _SHOWN:
        ui.label(f"and {slots - min(_SHOWN, len(found['named']))} more").classes("ef-soft")


def _command(model: str, endpoint: str, body: dict[str, Any]) -> str:
    """The same on the command line."""
    words = ["edgefleet", "fallback", "set", model]
    words += [] if body["group"] == "*" else ["--group", body["group"]]
    if not body["fallback"]:
        return shlex.join([*words, "--when", "never"])
    words += ["--endpoint", endpoint, "--when", ",".join(body["terms"]["when"])]
    for option, name in (
        ("--requests-a-day", "requests_a_day"),
        ("--waiting", "waiting"),
        ("--latency-ms", "latency_ms"),
    ):
        words += [option, json.dumps(body["terms"][name])] if name in body["terms"] else []
    words += ["--money-a-day", f"{body['money_a_day']:g}"] if body["money_a_day"] else []
    words += ["--on-demand", "--linger", f"{body['linger_s']}s"] if body["on_demand"] else []
    return shlex.join(words)
