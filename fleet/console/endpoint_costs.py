"""Of an endpoint's page: what it costs today, and what it has cost on the days before."""

from typing import Any, Final

from nicegui import ui

from fleet.console import parts
from fleet.console.redrawn import Redrawn

#: days of the chart
DAYS: Final = 30
_GREY, _BAR = "#8592a3", "#5d8fd0"


class Costs:
    """The figures of today, and a bar for each of the last days; made where this is."""

    def __init__(self, name: str) -> None:
        self._today = Redrawn(_today)
        self._said = ui.label("").classes("ef-soft")
        self._chart = ui.echart(_options()).classes("ef-chart")
        self._chart.props["role"] = "img"
        self._chart.set_visibility(False)
        parts.command(f"edgefleet endpoints costs {parts.quoted(name)}")

    def show(self, found: dict[str, Any]) -> None:
        """As the endpoint stands now."""
        self._today.show({name: found[name] for name in ("costs", "target", "demand")})

    def show_days(self, found: dict[str, Any]) -> None:
        """As it was on the days before: in money where there is a price, else in hours."""
        days, priced = found["days"], bool(found["price_per_hour"] or found["price_per_1000"])
        figure, unit = ("cost", "in your money") if priced else ("replica_hours", "replica hours")
        values = [round(one[figure], 2) for one in days]
        requests = sum(one["requests"] for one in days)
        counted = f", {requests} requests" if requests else ""
        self._said.set_text(f"{sum(values):.2f} {unit} in the last {len(days)} days (UTC){counted}")
        self._chart.props["aria-label"] = f"{unit} on each of the last {len(days)} days"
        self._chart.set_visibility(any(values))
        bars = {"type": "bar", "name": unit, "data": values, "color": _BAR, "barMaxWidth": 24}
        if self._chart.options["series"] != [bars]:
            self._chart.options["series"] = [bars]
            self._chart.options["xAxis"]["data"] = [one["day"][5:] for one in days]
            self._chart.update()


def _today(found: dict[str, Any]) -> None:
    """What it has cost today, by the price that somebody set; why it runs or stands still, where devices decide."""
    cost = found["costs"]
    with ui.element("div").classes("ef-figures"):
        if cost["price_per_hour"] or cost["price_per_1000"]:
            parts.figure(f"{cost['today']:.2f}", "spent today, in your money (an estimate)")
        parts.figure(f"{cost['replica_hours_today']:.2f}", "replica hours today (UTC)")
        if cost["price_per_hour"]:
            parts.figure(f"{cost['price_per_hour']:g}", "for a replica an hour")
        if cost["price_per_1000"]:
            parts.figure(f"{cost['requests_today']}", f"requests today, {cost['price_per_1000']:g} for 1000")
    if not (cost["price_per_hour"] or cost["price_per_1000"]):
        ui.label("Nobody has said what a replica costs there:").classes("ef-soft")
        parts.command(f"edgefleet targets set {found['target']} --price-per-hour PRICE")
    if found["demand"] and (why := found["demand"].get("why")):
        ui.label(why[: parts.WORDS])


def _options() -> dict[str, Any]:
    axis = {"axisLabel": {"color": _GREY}, "splitLine": {"lineStyle": {"color": "rgba(133,146,163,.25)"}}}
    return {
        "animation": False,
        "grid": {"left": 48, "right": 8, "top": 12, "bottom": 24},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},  # words are drawn, and never HTML
        "xAxis": {"type": "category", "data": []} | axis,
        "yAxis": {"type": "value"} | axis,
        "series": [],
    }
