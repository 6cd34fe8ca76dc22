"""Of an endpoint's page: which devices fall back to it, what they sent there today, and terms as somebody sets them."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from nicegui import ui

from fleet.console import parts
from fleet.console.fallback_form import FallbackForm, path_of
from fleet.console.frame import acting, asks, refused
from fleet.console.once import once
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Said, Visit

_WHOLE: Final = 100
_NAMED: Final = 5


class Shown(NamedTuple):
    """A policy, and what its devices sent today (None: nobody has asked yet)."""

    policy: dict[str, Any]
    sent: dict[str, Any] | None


class Fallbacks:
    """The policies that name an endpoint; made where this is. ``done`` is awaited when one was changed."""

    def __init__(self, visit: Visit, endpoint: str, done: Callable[[], Any]) -> None:
        self._visit, self._endpoint, self._done = visit, endpoint, done
        self._policies: list[dict[str, Any]] = []
        self._sent: dict[tuple[str, str], dict[str, Any]] = {}
        self._model = ""
        self._place = Redrawn(self._draw)
        if visit.may("fallback:write"):
            ui.button("New policy", icon="add", on_click=once(self._new)).props("outline no-caps")

    async def refresh(self, model: str) -> None:
        """Ask for the policies; ``model`` is what the endpoint serves, as team/name."""
        self._model = model
        every = await self._visit.get("fallbacks", unattended=True)
        self._policies = [one for one in every if one["endpoint"] == self._endpoint]
        self._show()

    async def count(self) -> None:
        """Ask what the devices of each policy have sent today."""
        for one in self._policies:
            path = f"{path_of(one['module'])}/requests"
            key = (one["module"], one["group"])
            self._sent[key] = await self._visit.get(path, unattended=True, group=one["group"])
        self._show()

    def _show(self) -> None:
        self._place.show([Shown(one, self._sent.get((one["module"], one["group"]))) for one in self._policies])

    def _draw(self, shown: list[Shown]) -> None:
        for one in shown:
            with ui.element("div").classes("ef-rows"):
                self._draw_one(one.policy)
                if one.sent is not None:
                    _draw_sent(one.sent)
        if not shown:
            parts.nothing(
                "No device falls back to it.",
                f"edgefleet fallback set TEAM/NAME --endpoint {parts.quoted(self._endpoint)}",
            )

    def _draw_one(self, one: dict[str, Any]) -> None:
        with ui.element("div").classes("ef-line"):
            ui.label(one["module"]).classes("ef-strong")
            ui.label(_group(one)).classes("ef-label")
            if one["on_demand"]:
                ui.label("on demand").classes("ef-label")
            if one["spent"]:
                ui.label("today's money is spent: nobody is asked").classes("ef-state ef-bad")
            if self._visit.may("fallback:write"):
                ui.button("Change it", on_click=once(partial(self._change, one))).props("flat dense no-caps")
                ui.button("Remove it", on_click=partial(self._remove, one)).props("flat dense no-caps color=negative")
        when = [f"asked when {' or '.join(one['when'])}"] if one["when"] else []
        terms = when + [f"{name} {value}" for name, value in sorted(one["terms"].items())]
        ui.label("; ".join(terms)[: parts.WORDS]).classes("ef-soft")
        if most := one["money_a_day"]:
            spent = (one.get("costs") or {}).get("today", 0.0)
            gone = round(_WHOLE * min(spent / most, 1))
            parts.bar([("% of today's money", gone, "warn"), ("% left", _WHOLE - gone, "left")])
            ui.label(f"{spent:.2f} of {most:g} spent today").classes("ef-soft")

    async def _new(self) -> None:
        await self._edit(None)

    async def _change(self, one: dict[str, Any]) -> None:
        try:
            whole = await self._visit.get(path_of(one["module"]), group=one["group"])
        except Said as said:
            refused(said)
            return
        await self._edit(whole)

    async def _edit(self, policy: dict[str, Any] | None) -> None:
        model = policy["module"] if policy else self._model
        if await FallbackForm(self._visit, self._endpoint, model, policy).ask():
            await self._again()

    async def _remove(self, one: dict[str, Any]) -> None:
        body = {"group": one["group"], "remove": True}
        try:
            found = await self._visit.ask("POST", f"{path_of(one['module'])}/preview", json=body)
        except Said as said:
            refused(said)
            return
        told = f"No order of {_group(one)} changes."
        if slots := found["slots"]:
            told = f"{slots} order{'' if slots == 1 else 's'} of {_group(one)} will name somebody else, or nobody: "
            told += "what is less specific holds again."
        if not await asks(f"Remove the fallback of {one['module']}?", told, "Remove it"):
            return
        gone = self._visit.ask("DELETE", path_of(one["module"]), params={"group": one["group"]})
        if await acting(gone, "It is removed"):
            await self._again()

    async def _again(self) -> None:
        async def both() -> None:
            await self._done()
            await self.count()

        await acting(both())


def _group(one: dict[str, Any]) -> str:
    return "all devices" if one["group"] == "*" else f"devices with {one['group']}"


def _draw_sent(found: dict[str, Any]) -> None:
    """What was sent today, and of how much."""
    sent, slots = found["sent"], found["slots"]
    least = "" if found["whole"] else "at least "
    if most := found["a_day"] * slots:
        gone = round(_WHOLE * min(sent / most, 1))
        parts.bar([("% of today's requests", gone, "warn"), ("% left", _WHOLE - gone, "left")])
        said = f"{least}{sent} of {most} requests today ({found['a_day']} for each of {slots})"
    else:
        said = f"{least}{sent} requests today, without a limit"
    ui.label(f"{said}; {found['told']} of {found['devices']} devices have told of today").classes("ef-soft")
    if found["spent"]:
        left = f"{found['spent']} of {slots} have none left until 00:00 UTC"
        ui.label(left).classes("ef-state ef-warn")
    for one in found["most"][:_NAMED]:
        with ui.element("div").classes("ef-line"):
            ui.link(one["device"], f"/devices/{quote(one['device'], safe='')}")
            ui.label(f"{one['slot']}: {one['sent']}")
