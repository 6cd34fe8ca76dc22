"""What the page of a device is made of: its modules on their way, its figures over time, what it is."""

from typing import Any, Final

from nicegui import ui

from fleet.console import parts
from fleet.console.chart import Chart

_CHARTS: Final = (
    # Heading, stream, figures, unit.
    ("Latency", "gateway", ("p50_ms", "p95_ms"), "ms"),
    ("Memory of modules", "modules", ("memory_mb",), "MiB"),
    ("Temperature", "host", ("temperature_c",), "°C"),
    ("Processor and memory in use", "host", ("cpu_percent", "memory_used_percent"), "%"),
)
_LINES: Final = ("#2f9e5f", "#d99100", "#5d8fd0", "#c264c9", "#d93a30", "#7f93ad")
_PERCENT: Final = 100
_MINUTE: Final = 60
_HOUR: Final = 3600


def slots(report: dict[str, Any] | None) -> None:
    """Each slot: what it should run, in which phase, what answers meanwhile, and why not more."""
    found = (report or {}).get("slots", [])
    for one in found:
        with ui.element("div").classes("ef-slot"):
            with ui.element("div").classes("ef-line"):
                ui.label(one["slot"]).classes("ef-strong")
                ui.label(one["module"][: parts.WORDS]).classes("ef-words")
                parts.state(one["phase"])
                if one["progress"] is not None and one["phase"] == "fetching":
                    ui.label(f"{_PERCENT * one['progress']:.0f} %")
            _serves(one)
            if one["reason"]:
                ui.label(one["reason"]["message"][: parts.WORDS]).classes("ef-reason")
            _timeline(one["times"])
    if not found:
        parts.nothing("It has reported no modules.", "edgefleet rollouts start MODULE --slot main --selector id=DEVICE")


def _serves(one: dict[str, Any]) -> None:
    serving, health = one["serving"], one["current"]
    with ui.element("div").classes("ef-line"):
        if serving:
            where = ", ".join(filter(None, (serving["provider"], serving["engine"])))
            ui.label(f"Answers: {serving['module']}" + (f" on {where}" if where else "")).classes("ef-soft ef-words")
        else:
            ui.label("Nobody answers").classes("ef-state ef-bad")
        if health:
            parts.state(health["state"])
            if health["restarts"]:
                ui.label(f"{health['restarts']} restarts").classes("ef-soft")
            if health["reason"]:
                ui.label(health["reason"]["message"][: parts.WORDS]).classes("ef-reason")


def _timeline(times: list[list[Any]]) -> None:
    """Its phases in order, each with when it began and how long it took."""
    with ui.element("ol").classes("ef-timeline"):
        for number, (phase, at) in enumerate(times):
            # Of what it has behind it nothing is to be watched any more.
            over = number + 1 < len(times) and parts.look(phase) == "warn"
            with ui.element("li").classes(f"ef-{'calm' if over else parts.look(phase)}"):
                ui.label(phase[:40]).classes("ef-strong")
                parts.moment(at or None, absent="clock not set").classes("ef-soft")
                if number + 1 < len(times) and at:
                    ui.label(_lasted(times[number + 1][1] - at)).classes("ef-soft")


def _lasted(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"took {max(seconds, 0):.1f} s"
    return f"took {seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"took {seconds / _HOUR:.1f} h"


class Charts:
    """The figures of a day as lines that move on; a chart without figures is left out."""

    def __init__(self) -> None:
        self._none = ui.column()
        with self._none:
            parts.nothing("It has sent no telemetry yet; it sends some every few minutes.")
        self._panels: list[tuple[ui.element, Chart, str, tuple[str, ...]]] = []
        with ui.element("div").classes("ef-charts"):
            for heading, stream, figures, unit in _CHARTS:
                with ui.element("div") as panel:
                    ui.label(f"{heading} ({unit})").classes("ef-soft")
                    chart = Chart(_options(), f"{heading} of the last day, in {unit}")
                panel.set_visibility(False)
                self._panels.append((panel, chart, stream, figures))

    def show(self, history: list[dict[str, Any]]) -> None:
        shown = False
        for panel, chart, stream, figures in self._panels:
            series = _series(history, stream, figures)
            panel.set_visibility(bool(series))
            shown |= bool(series)
            if chart.options["series"] != series:
                chart.options["series"] = series
                chart.update()
        self._none.set_visibility(not shown)


def _series(history: list[dict[str, Any]], stream: str, figures: tuple[str, ...]) -> list[dict[str, Any]]:
    """A line for each slot and figure, named without its unit, in milliseconds of Unix time."""
    lines: dict[str, list[list[float]]] = {}
    for sample in history:
        if sample["stream"] != stream:
            continue
        for name in figures:
            if (value := sample["figures"].get(name)) is not None:
                named = " ".join(filter(None, (sample["slot"], name.rpartition("_")[0].replace("_", " "))))
                lines.setdefault(named, []).append([1000 * (sample["at"] or sample["received"]), value])
    return [
        {"type": "line", "name": name, "data": points, "showSymbol": len(points) == 1, "color": colour, "symbolSize": 8}
        for (name, points), colour in zip(sorted(lines.items()), _LINES * len(lines), strict=False)
    ]


def _options() -> dict[str, Any]:
    grey = "#8592a3"
    axis = {
        "axisLabel": {"color": grey, "hideOverlap": True},
        "splitLine": {"lineStyle": {"color": "rgba(133,146,163,.25)"}},
    }
    return {
        "animation": False,
        "grid": {"left": 48, "right": 12, "top": 12, "bottom": 44},
        "legend": {"bottom": 0, "textStyle": {"color": grey}},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},  # words are drawn, and never HTML
        "xAxis": {"type": "time"} | axis,
        "yAxis": {"type": "value", "scale": True} | axis,
        "series": [],
    }


def facts(found: dict[str, Any] | None, report: dict[str, Any] | None) -> None:
    """What it says of its hardware, and what of it computes for which slot."""
    if not found:
        parts.nothing("It has not said what it is.")
        return
    host = found["host"]
    accelerators = [
        f"{one['name']} ({one['kind']}{', ' + str(one['memory_mb']) + ' MiB' if one['memory_mb'] else ''}): "
        + ", ".join(one["providers"])
        for one in host["accelerators"]
    ]
    parts.fields(
        [
            ("Platform", host["platform"]),
            ("Processor", f"{host['cpu_model'] or 'CPU'}, {host['cores']:g} cores"),
            ("Memory", f"{host['memory_mb']} MiB"),
            ("Disk", f"{host['disk_free_mb']} MiB free"),
            *(("Accelerator", one) for one in accelerators or ["none: models run on the processor"]),
            *(("In use", one) for one in _in_use(host["accelerators"], report)),
            ("Engines", ", ".join(f"{one['name']} {one['version']}".strip() for one in host["engines"]) or "none"),
            ("Agent", found["agent"]),
        ]
    )


def _in_use(accelerators: list[dict[str, Any]], report: dict[str, Any] | None) -> list[str]:
    """Of each slot that serves: its provider, on what it computes, and the engine."""
    found = []
    for one in (report or {}).get("slots", []):
        if serving := one["serving"]:
            provider = serving["provider"]
            where = next((each["name"] for each in accelerators if provider in each["providers"]), "the processor")
            on = f"{provider} on {where}" if provider else "a provider that it does not name"
            found.append(f"{one['slot']}: {on}" + (f", {serving['engine']}" if serving["engine"] else ""))
    return found


def happened(found: list[dict[str, Any]]) -> None:
    """What happened to it, the newest first: events and refusals."""
    for one in found:
        with ui.element("div").classes("ef-line"):
            parts.moment(one["at"]).classes("ef-soft")
            if to := one.get("to"):
                ui.link(one["kind"], to).classes("ef-strong")
            else:
                ui.label(one["kind"]).classes("ef-strong")
            ui.label(one["message"][: parts.WORDS]).classes("ef-words")
    if not found:
        parts.nothing("Nothing has happened to it.")
