"""The fleet by the values of one label: on a map where labels say where that is, else as tiles."""

import re
from typing import Final
from urllib.parse import urlencode

from nicegui import ui

from fleet.console import parts, site_map
from fleet.console.closed import needs
from fleet.console.frame import frame, live
from fleet.console.redrawn import Redrawn
from fleet.console.visit import Visit, page

_KEY: Final = re.compile(r"[a-z0-9][a-z0-9._/-]{0,57}")
_SHOWN: Final = 500


@page("/sites")
@needs("device:read")
async def sites(visit: Visit, label: str = "site") -> None:
    key = label if _KEY.fullmatch(label) else "site"
    command = "edgefleet devices sites" + ("" if key == "site" else f" --label {key}")
    with frame(visit, "Sites", at="/devices", command=command):
        with ui.row().classes("ef-filters"):
            chosen = ui.input("Label that says where", value=key).props("dense outlined")
            chosen.on("keydown.enter", lambda: ui.navigate.to(f"/sites?{urlencode({'label': chosen.value or 'site'})}"))
            ui.link("List of devices", "/devices")
            ui.space()
            for words, look in (
                ("offline or revoked", "bad"),
                ("degraded", "warn"),
                ("updating", "calm"),
                ("online", "good"),
            ):
                ui.label(words).classes(f"ef-key ef-state ef-{look}")
        with parts.panel("Devices by place", wide=True):
            drawn = Redrawn(lambda found: site_map.show(found, key))
            more = ui.label(f"Only the {_SHOWN} largest are shown.").classes("ef-soft")

    async def refresh() -> None:
        found = await visit.get("sites", unattended=True, label=key)
        drawn.show(found)
        more.set_visibility(len(found) >= _SHOWN)

    await live(refresh, every_s=10)
