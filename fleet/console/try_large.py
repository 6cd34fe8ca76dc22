"""What is too large for where it is to go: said before it is sent, with every way there is instead."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from nicegui import ui

from fleet.console import parts
from modules.protocol.commands import TRIAL_BODY

# Of what a browser sends to an endpoint by way of the page.
AT_ENDPOINT: Final = 8 << 20


class Place(NamedTuple):
    """Where a module serves: how it is called, what is asked for it, and the same on the command line.

    ``slot`` is a device's, empty at an endpoint.
    """

    name: str
    module: str
    path: str
    version: str
    command: str
    slot: str

    @property
    def most(self) -> int:
        """Bytes that can be sent there from here."""
        return TRIAL_BODY if self.slot else AT_ENDPOINT


def draw(
    length: int, kind: str, places: Sequence[Place], at: int, choose: Callable[[int], object], *, smaller: str
) -> None:
    """How much it is, how much can go, and what to do; ``smaller`` is how it would be less."""
    place = places[at]
    there = "a device, through the broker," if place.slot else "an endpoint from this page"
    with ui.column().classes("ef-rows").props("role=alert"):
        ui.label(f"{parts.size(length)}: too large to send there").classes("ef-state ef-bad ef-large ef-wraps")
        ui.label(f"At most {parts.size(place.most)} can be sent to {there} for a try. Instead:")
        if smaller:
            ui.label(smaller)
        for other, one in enumerate(places):
            if one.module == place.module and length <= one.most:
                ui.button(f"Send it to {one.name}"[: parts.WORDS], on_click=lambda other=other: choose(other)).props(
                    "no-caps outline"
                )
        if place.slot:
            ui.label("Ask it on the device itself, with what is sent as a file:")
            where = f"http://127.0.0.1:8700/{place.slot}/score"
            parts.command(f"curl -H {parts.quoted(f'Content-Type: {kind}')} --data-binary @FILE {where}")
        ui.label("Or on your own machine, where it then answers at port 5001:")
        parts.command(f"edgefleet serve-local {parts.quoted(place.module)}")
