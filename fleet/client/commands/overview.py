"""``edgefleet overview``: the fleet at a glance."""

from typing import Any

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when
from modules.words import printable

app = typer.Typer()


@app.command()
def overview(*, as_json: Json = False) -> None:
    """Show the fleet at a glance: what needs somebody first, then devices, rollouts and modules."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", "overview")
    Screen(as_json=as_json).show(found, lambda it: _show(it, found))


def _show(screen: Screen, found: dict[str, Any]) -> None:
    for one in found["attention"]:
        since = "" if one["since"] is None else f" (since {when(one['since'])})"
        screen.say(f"{'!!' if one['level'] == 'bad' else ' !'} {printable(one['says'])}{since}")
        screen.say(f"   {one['command']}")
    if not found["attention"]:
        screen.say("Nothing needs you.")
    devices = {name: count for name, count in found["devices"].items() if count}
    screen.fields(
        [
            ("devices", ", ".join(f"{count} {name}" for name, count in devices.items()) or "none yet"),
            ("answered", _answered(found["answered"])),
        ]
    )
    screen.table(
        ("ROLLOUT", "MODULE", "STATE", "WAVE", "STARTED"),
        (
            (one["id"], one["module"], one["state"], f"{one['wave']} of {one['waves']}", when(one["created"]))
            for one in found["rollouts"]
        ),
        empty="No rollout is open.",
    )
    if found["modules"]:
        screen.table(
            ("MODULE", "DEVICES", "ON THE WAY"),
            ((one["module"], str(one["devices"]), str(one["on_the_way"])) for one in found["modules"]),
            empty="",
        )


def _answered(counts: dict[str, Any] | None) -> str | None:
    if counts is None:
        return None
    by = ", ".join(f"{counts[name]:g} by {who}" for name, who in _BY)
    return f"{by} ({counts['devices']} devices, as they counted last)"


_BY = (("module", "modules"), ("cloud", "the cloud"), ("nobody", "nobody"))
