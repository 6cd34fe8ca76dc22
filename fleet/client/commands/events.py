"""``edgefleet events``: what happened that somebody should look at."""

from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when

app = typer.Typer()


@app.command()
def events(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 50,
    *,
    kind: Annotated[str, typer.Option(help="Only of this kind, as WHAT shows it.")] = "",
    device: Annotated[str, typer.Option(help="Only of this device.")] = "",
    as_json: Json = False,
) -> None:
    """Show what happened that somebody should look at: who joined, what was refused, what was forged."""
    with Fleet(config.load()) as fleet:
        found = fleet.events(limit=limit, kind=kind, device=device)
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("WHEN", "WHAT", "DEVICE", "MESSAGE"),
            ((when(one.at), one.kind, one.device or "", one.message) for one in found),
            empty="Nothing has happened yet.",
        ),
    )
