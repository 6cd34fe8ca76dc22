"""``edgefleet server``: how the fleet server itself stands: certificates, broker, settings."""

from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when
from modules.words import printable

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Show how the fleet server itself stands: its certificates, its broker, its settings."""


@app.command()
def certificates(
    *,
    limit: Annotated[int, typer.Option(min=1, max=500, help="So many devices, those that end next first.")] = 20,
    as_json: Json = False,
) -> None:
    """Show when the fleet's own certificates end, and which devices' end next."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", f"certificates?limit={limit}")
    screen = Screen(as_json=as_json)
    rows = [(one["name"], when(one["ends"]), "soon" if one["soon"] else "") for one in found["fleet"]]
    rows += [(one["device"], when(one["ends"]), "") for one in found["devices"]]
    counts = ", ".join(f"{name}: {count}" for name, count in found["buckets"].items())

    def show(it: Screen) -> None:
        it.table(("CERTIFICATE", "ENDS", ""), rows, empty="There is none.")
        it.say(f"Devices by what is left of theirs: {counts}")

    screen.show(found, show)


@app.command()
def broker(*, as_json: Json = False) -> None:
    """Show what the server sees of its broker: is it there, whom does it let in, are its access rules the fleet's."""
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", "broker")
    words = {True: "yes", False: "NO", None: "-"}
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("", "LOOKED AT", "SEEN"),
            ((words[one["ok"]], one["name"], printable(one["says"])) for one in found),
            empty="Nothing was looked at.",
        ),
    )
    if any(one["ok"] is False for one in found):
        raise typer.Exit(1)


@app.command()
def settings(
    *,
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are not at their default.")] = False,
    as_json: Json = False,
) -> None:
    """Show how the server was set, and by which variable; secrets as set or not."""
    with Fleet(config.load()) as fleet:
        found = [one for one in fleet.answer("GET", "settings") if one["changed"] or not changed]
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("VARIABLE", "VALUE", "DEFAULT"),
            ((one["variable"], printable(str(one["value"])), printable(str(one["default"]))) for one in found),
            empty="Every setting is at its default.",
        ),
    )
