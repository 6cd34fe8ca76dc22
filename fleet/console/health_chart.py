"""Devices by state over time, as areas that stand on each other."""

from typing import Any, Final

from nicegui import ui

from fleet.console import parts
from fleet.console.chart import Chart
from fleet.console.visit import Visit

# The worst at the bottom, where a change of few is seen.
_AREAS: Final = (
    ("offline", "#d93a30"),
    ("degraded", "#d99100"),
    ("revoked", "#8a3fa0"),
    ("updating", "#5d8fd0"),
    ("online", "#2f9e5f"),
)
_GREY: Final = "#8592a3"
_SPANS: Final = {24: "a day", 168: "a week"}
# Counts come four times an hour: between two of them lies no gap.
_GAP_S: Final = 2 * 900


class HealthChart:
    """A day or a week; what the server counted while it was off is a gap."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        with ui.row().classes("ef-line"):
            self._hours = ui.toggle(_SPANS, value=24, on_change=self.refresh).props(
                "no-caps unelevated padding='4px 14px'"
            )
            self._hours.props["aria-label"] = "How far back"
            parts.command("edgefleet devices health")
        self._none = ui.label("It is counted four times an hour; the first hours are still to come.").classes("ef-soft")
        self._chart = Chart(_options(), "Devices by state over time")

    async def refresh(self) -> None:
        """Ask for what was counted, and draw it where it is other than before."""
        found = await self._visit.get("health-history", unattended=True, hours=self._hours.value)
        several = len(found) > 1
        self._none.set_visibility(not several)
        self._chart.set_visibility(several)
        series = _series(found)
        if several and self._chart.options["series"] != series:
            self._chart.options["series"] = series
            self._chart.update()


def _series(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    series = []
    for state, colour in _AREAS:
        points: list[list[float | None]] = []
        before = None
        for one in found:
            if before is not None and one["at"] - before > _GAP_S:
                points.append([1000 * (before + 1), None])
            before = one["at"]
            points.append([1000 * one["at"], one[state]])
        if any(value for _, value in points):
            line = {"type": "line", "name": state, "stack": "devices", "data": points, "color": colour}
            series.append(line | {"showSymbol": False, "areaStyle": {"opacity": 0.75}, "lineStyle": {"width": 1}})
    return series


def _options() -> dict[str, Any]:
    axis = {"axisLabel": {"color": _GREY}, "splitLine": {"lineStyle": {"color": "rgba(133,146,163,.25)"}}}
    return {
        "animation": False,
        "grid": {"left": 56, "right": 12, "top": 32, "bottom": 52},
        # In one row on a phone, too.
        "legend": {"bottom": 0, "itemWidth": 12, "itemGap": 8, "icon": "roundRect", "textStyle": {"color": _GREY}},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},  # words are drawn, and never HTML
        "xAxis": {"type": "time"} | axis,
        "yAxis": {"type": "value", "minInterval": 1, "name": "devices", "nameTextStyle": {"color": _GREY}} | axis,
        "series": [],
    }
