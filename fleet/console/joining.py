"""Letting devices join: a bundle that is made on the page, as a file to carry and as a QR code to scan."""

from functools import partial
from typing import Any, Final

import msgspec
import segno
from nicegui import ui

from fleet.console import parts
from fleet.console.devices_bulk import labelled
from fleet.console.frame import refused
from fleet.console.once import once
from fleet.console.visit import Said, Visit
from modules import canonical
from modules.errors import Invalid
from modules.protocol import join_code
from modules.protocol.enrollment import JoinBundle

_MOST: Final = 100_000
_LASTS: Final = {3600: "an hour", 86400: "a day", 7 * 86400: "a week"}
# Picture points of the code's smallest square.
_SCALE: Final = 4


def offer(visit: Visit) -> None:
    """A button, for whoever may make bundles."""
    if visit.may("device:enrol"):
        ui.button("Let a device join", icon="qr_code_2", on_click=once(partial(_ask, visit))).props("no-caps outline")


async def _ask(visit: Visit) -> None:
    with ui.dialog() as dialog, ui.card().classes("ef-ask"):
        dialog.props["aria-label"] = "Let a device join"
        ui.label("Let a device join").classes("ef-title")
        ui.label("It gets a bundle: a file, or a QR code of the same. The device's key never leaves the device.")
        uses = ui.number("How many devices", value=1, min=1, max=_MOST, precision=0).props("outlined dense autofocus")
        lasts = ui.select(_LASTS, value=86400, label="For how long").props("outlined dense options-dense")
        labels = ui.input("Labels that they get", placeholder="site=berlin, line=3").props("outlined dense")
        waits = ui.checkbox("Each waits until somebody has compared the fingerprint of its key")
        with ui.row():
            ui.button("Make the bundle", on_click=lambda: dialog.submit(True)).props("no-caps")  # noqa: FBT003
            ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")  # noqa: FBT003
    if not await dialog:
        return
    wish: dict[str, Any] = {"uses": int(uses.value or 1), "expires_s": lasts.value}
    wish |= {"labels": labelled({}, labels.value or "")} | ({"approve": True} if waits.value else {})
    try:
        made = await visit.ask("POST", "join-tokens", json=wish)
    except Said as said:
        refused(said)
        return
    who = "one device" if wish["uses"] == 1 else f"{wish['uses']} devices"
    _show(msgspec.convert(made, JoinBundle), f"It lets {who} join within {_LASTS[lasts.value]}.")


def _show(bundle: JoinBundle, good_for: str) -> None:
    with ui.dialog(value=True).props("persistent") as dialog, ui.card().classes("ef-ask"):
        dialog.props["aria-label"] = "Join bundle"
        ui.label("Take it to the device now: it is not shown again").classes("ef-title")
        ui.label(f"{good_for} Whoever has the file or a photograph of the code can do that.")
        with ui.row().classes("ef-line"):
            data = canonical.encode(bundle)
            ui.button("Save the file", icon="download", on_click=lambda: ui.download.content(data, "join.json")).props(
                "no-caps"
            )
            parts.command("edgefleet-agent enroll join.json")
        try:
            _code(join_code.encode(bundle))
        except Invalid as error:
            ui.label(f"It has no QR code: {error.message}.").classes("ef-soft")
        ui.button("Done", on_click=dialog.close).props("flat no-caps")


def _code(text: str) -> None:
    ui.label("Or scan the code and give the device the line that it holds. A hand scanner types it.").classes("ef-soft")
    parts.command("edgefleet-agent enroll -")
    picture = ui.element("img").classes("ef-qr")
    picture.props["alt"] = "QR code of the join bundle"
    picture.props["src"] = segno.make(text, error="l", boost_error=False, micro=False).png_data_uri(scale=_SCALE)
