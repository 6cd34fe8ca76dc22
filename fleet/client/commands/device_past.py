"""``edgefleet devices certificates`` and ``history``: what a device was given."""

from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when
from modules.names import device_id


def certificates(device: Annotated[str, typer.Argument(help="The device's id.")], *, as_json: Json = False) -> None:
    """List the certificates that a device was given, the newest first."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", f"devices/{device_id(device)}/certificates")
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("SERIAL NUMBER", "GIVEN", "ENDS", "TAKEN BACK"),
            (
                (
                    one["serial"],
                    when(one["issued"]) if one["issued"] else "-",
                    when(one["ends"]),
                    when(one["revoked"]) if one["revoked"] else "",
                )
                for one in found
            ),
            empty="It was given none that is remembered.",
        ),
    )


def history(device: Annotated[str, typer.Argument(help="The device's id.")], *, as_json: Json = False) -> None:
    """List what was decided for a device's slots, the newest first."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", f"devices/{device_id(device)}/decisions")
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("WHEN", "SLOT", "MODULE", "ROLLOUT", "BY"),
            (
                (when(one["at"]), one["slot"], one["module"] or "(emptied)", one["rollout"] or "-", one["by"])
                for one in found
            ),
            empty="Nothing was decided for it yet.",
        ),
    )
