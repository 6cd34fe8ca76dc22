"""Of an endpoint's page: its shares, as somebody changes them."""

from collections.abc import Callable
from typing import Any, Final

from nicegui import ui

from fleet.console import parts
from fleet.console.frame import acting
from fleet.console.once import once
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
        self._open = ui.button("Change the shares", icon="tune", on_click=once(self._edit)).props("outline no-caps")
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
