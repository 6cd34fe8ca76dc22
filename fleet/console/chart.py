"""A chart, for which nobody who opens a page waits: its library comes once the page can be used (static/chart.js)."""

from typing import Any

from nicegui import ui

from fleet.console.assets import STATIC


class Chart(ui.echart, component=STATIC / "chart.js"):
    """Options as ECharts has them, without functions; ``name`` is what it shows, in words."""

    def __init__(self, options: dict[str, Any], name: str) -> None:
        super().__init__(options)
        self.classes("ef-chart")
        self.props["role"], self.props["aria-label"] = "img", name
