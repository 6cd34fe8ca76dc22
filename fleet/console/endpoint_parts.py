"""Of an endpoint's page: its shares as somebody changes them, what it costs, and which devices fall back to it."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import acting, asks
from fleet.console.visit import Visit

_WHOLE: Final = 100
LOOKS: Final = ("good", "calm", "warn")


def bar(shares: dict[str, int]) -> None:
    """The shares of versions in percent, the largest first."""
    ordered = sorted(shares.items(), key=lambda one: -one[1])
    parts.bar([(f"% {name}", share, LOOKS[at % len(LOOKS)]) for at, (name, share) in enumerate(ordered)])


class Split:
    """Shares as somebody changes them: nothing is sent before they have seen what will be, and said yes."""

    def __init__(self, visit: Visit, path: str, done: Callable[[], Any]) -> None:
        self._visit, self._path, self._done = visit, path, done
        self._found: dict[str, Any] = {}
        self._open = ui.button("Change the shares", icon="tune", on_click=self._edit).props("outline no-caps")
        self._open.set_visibility(False)

    def show(self, found: dict[str, Any]) -> None:
        """As the endpoint stands now; with one version there is nothing to share out."""
        self._found = found
        self._open.set_visibility(len(found["versions"]) > 1)

    async def _edit(self) -> None:
        found, default = self._found, self._found["default"]
        given = {name: one["weight"] for name, one in found["versions"].items() if name != default}
        with ui.dialog() as dialog, ui.card().classes("ef-ask"):
            dialog.props["aria-label"] = f"Shares of {found['name']}"
            ui.label(f"Shares of {found['name']}").classes("ef-title")
            fields = {
                name: ui.number(f"{name}, in percent", value=share, step=1).props("outlined dense")
                for name, share in given.items()
            }
            ui.label(f"{default} is the default, and has what the others leave over.").classes("ef-soft")
            ui.label("Now").classes("ef-strong")
            bar({name: one["weight"] for name, one in found["versions"].items()})
            ui.label("Then").classes("ef-strong")
            then = ui.column().classes("ef-rows")
            with ui.row():
                yes = ui.button("Change them", on_click=lambda: dialog.submit(_shares(fields, default))).props(
                    "no-caps"
                )
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")

        def preview() -> None:
            shares = _shares(fields, default)
            then.clear()
            yes.set_enabled(bool(shares))
            with then:
                if not shares:
                    ui.label(f"Whole percentages, {_WHOLE} together at most.").classes("ef-reason")
                    return
                bar(shares)
                words = " ".join(f"{name}={share}" for name, share in shares.items() if name != default)
                parts.command(f"edgefleet endpoints split {found['name']} {words}")

        for field in fields.values():
            field.on_value_change(preview)
        preview()
        if shares := await dialog:
            await self._change(found, shares)

    async def _change(self, found: dict[str, Any], shares: dict[str, int]) -> None:
        versions = {
            name: {"module": one["module"], "replicas": one["replicas"], "weight": shares[name]}
            for name, one in found["versions"].items()
        }
        body = {"versions": versions, "default": found["default"], "generation": found["generation"]}
        done = "The shares are changed; no request fails meanwhile"
        if await acting(self._visit.ask("PATCH", self._path, json=body), done):
            await acting(self._done())


def _shares(fields: dict[str, ui.number], default: str) -> dict[str, int]:
    """All shares, the default's included; empty where they cannot be."""
    values = {name: field.value for name, field in fields.items()}
    if any(one is None or one != int(one) or not 0 <= one <= _WHOLE for one in values.values()):
        return {}
    whole = {name: int(one) for name, one in values.items()}
    left = _WHOLE - sum(whole.values())
    return whole | {default: left} if left >= 0 else {}


def costs(found: dict[str, Any]) -> None:
    """What it has cost today, by the price that somebody set; and why it runs or stands still, where devices decide."""
    cost = found["costs"]
    with ui.element("div").classes("ef-figures"):
        if cost["price_per_hour"]:
            parts.figure(f"{cost['today']:.2f}", "today, in your money (an estimate)")
        parts.figure(f"{cost['replica_hours_today']:.2f}", "replica hours today (UTC)")
        if cost["price_per_hour"]:
            parts.figure(f"{cost['price_per_hour']:g}", "a replica an hour")
    if not cost["price_per_hour"]:
        ui.label("Nobody has said what a replica costs there:").classes("ef-soft")
        parts.command(f"edgefleet targets set {found['target']} --price-per-hour PRICE")
    if found["demand"] and (why := found["demand"].get("why")):
        ui.label(why[: parts.WORDS])


def fallbacks(shown: tuple[list[dict[str, Any]], bool], endpoint: str, remove: Callable[[dict[str, Any]], Any]) -> None:
    """Which devices it answers for, on which terms, and how much of a day's money is gone."""
    policies, may = shown
    for one in policies:
        with ui.element("div").classes("ef-slot"):
            with ui.element("div").classes("ef-line"):
                ui.label(one["module"]).classes("ef-strong")
                ui.label("all devices" if one["group"] == "*" else one["group"]).classes("ef-label")
                if one["on_demand"]:
                    ui.label("on demand").classes("ef-label")
                if one["spent"]:
                    ui.label("today's money is spent: nobody is asked").classes("ef-state ef-bad")
                if may:
                    ui.button("Remove it", on_click=partial(remove, one)).props("flat dense no-caps color=negative")
            when = [f"when {', '.join(one['when'])}"] if one["when"] else []
            terms = when + [f"{name} {value}" for name, value in sorted(one["terms"].items())]
            ui.label("; ".join(terms)[: parts.WORDS]).classes("ef-soft")
            if most := one["money_a_day"]:
                spent = (one.get("costs") or {}).get("today", 0.0)
                left = max(most - spent, 0.0)
                gone = round(_WHOLE * min(spent / most, 1))
                parts.bar([("% of today's money", gone, "warn"), ("% left", round(_WHOLE * left / most), "left")])
                ui.label(f"{spent:.2f} of {most:g} today").classes("ef-soft")
    if not policies:
        parts.nothing("No device falls back to it.", f"edgefleet fallback set TEAM/NAME --endpoint {endpoint}")


async def take_back(visit: Visit, one: dict[str, Any]) -> bool:
    """Remove a policy, once somebody knows what that means."""
    group = "all devices" if one["group"] == "*" else f"devices with {one['group']}"
    said = f"Orders of {group} are made anew: what is less specific holds again, or nobody answers for {one['module']}."
    if not await asks(f"Remove the fallback of {one['module']}?", said, "Remove it"):
        return False
    team, _, name = one["module"].partition("/")
    path = f"fallbacks/{quote(team, safe='')}/{quote(name, safe='')}"
    return await acting(visit.ask("DELETE", path, params={"group": one["group"]}), "It is removed")
