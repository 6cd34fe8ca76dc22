"""What a graph takes, gives and is made of, on the pages of modules and uploads."""

from typing import Any, Final
from urllib.parse import quote

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import refused
from fleet.console.graph_drawing import draw, shape_of
from fleet.console.visit import Said, Visit

# Graphs of up to so many nodes are drawn without being asked for.
_AT_ONCE: Final = 40
_VALUES: Final = 40
_OPERATORS: Final = 12


class GraphPanel:
    """The place of a graph; what is in it is asked for once, for a file does not change."""

    def __init__(self, visit: Visit, place: str, nodes: str) -> None:
        self._visit, self._place, self._nodes, self._path = visit, place, nodes, ""
        self._body = ui.column().classes("ef-column")
        self._known = False

    async def refresh(self) -> None:
        """Ask for it, if nobody has yet."""
        if not self._known:
            self._known = True
            found = await self._visit.get(f"{self._place}?path={quote(self._path)}", unattended=True)
            await self.show(found["graph"], found["path"], found["paths"])

    async def show(self, graph: dict[str, Any] | None, path: str, paths: list[str]) -> None:
        self._path = path
        self._body.clear()
        with self._body:
            if graph is None:
                ui.label("It has no graph: what it serves is a script.").classes("ef-soft")
                return
            if len(paths) > 1:
                chosen = ui.select(paths, value=path, label="Graph").props("outlined dense stack-label")
                chosen.on_value_change(lambda: self._other(str(chosen.value)))
            if graph["problem"]:
                ui.label(f"It is not shown: {graph['problem']}"[: parts.WORDS]).classes("ef-soft")
                return
            _draw_face(graph)
            await self._offer(graph)

    async def _other(self, path: str) -> None:
        self._path, self._known = path, False
        try:
            await self.refresh()
        except Said as said:
            refused(said)

    async def _offer(self, graph: dict[str, Any]) -> None:
        if not graph["drawn"]:
            ui.label(f"Of {graph['count']} nodes there is no drawing.").classes("ef-soft")
        elif not self._visit.may("blob:read"):
            ui.label("Its nodes are for who may read files of modules (blob:read).").classes("ef-soft")
        elif graph["count"] <= _AT_ONCE:
            await self._draw(graph)
        else:
            place = ui.column().classes("ef-column")

            async def asked() -> None:
                place.clear()
                with place:
                    await self._draw(graph)

            with place:
                ui.button(f"Draw all {graph['count']} nodes", on_click=asked).props("outline no-caps")

    async def _draw(self, graph: dict[str, Any]) -> None:
        try:
            found = await self._visit.get(f"{self._nodes}?path={quote(self._path)}")
        except Said as said:
            refused(said)
            return
        draw(graph, found["nodes"] or [])


def _draw_face(graph: dict[str, Any]) -> None:
    opsets = ", ".join(f"{name} {version}" for name, version in list(graph["opsets"].items())[:5])
    said = [f"{graph['count']:,} nodes", f"{graph['parameters']:,} parameters", f"operators of {opsets}"]
    said += [f"made by {graph['producer']}"] if graph["producer"] else []
    ui.label(", ".join(said)[: parts.WORDS])
    with ui.element("div").classes("ef-grid"):
        for title, values in (("Inputs", graph["inputs"]), ("Outputs", graph["outputs"])):
            with ui.column().classes("ef-rows"):
                ui.label(title).classes("ef-strong")
                for one in values[:_VALUES]:
                    with ui.element("div").classes("ef-line"):
                        ui.label(one["name"]).classes("ef-cell")
                        ui.label(shape_of(one)[: parts.WORDS]).classes("ef-mono ef-soft")
                if len(values) > _VALUES:
                    ui.label(f"and {len(values) - _VALUES} more").classes("ef-soft")
        with ui.column().classes("ef-rows"):
            ui.label("Operators").classes("ef-strong")
            operators = list(graph["operators"].items())
            for name, count in operators[:_OPERATORS]:
                with ui.element("div").classes("ef-operator"):
                    ui.label(name).classes("ef-cell")
                    share = ui.element("div").classes("ef-operator-bar").props("aria-hidden=true")
                    share.style(f"width:{100 * count / operators[0][1]:.1f}%")
                    ui.label(f"{count:,}")
            if len(operators) > _OPERATORS:
                ui.label(f"and {len(operators) - _OPERATORS} more kinds").classes("ef-soft")
