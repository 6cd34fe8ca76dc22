"""``edgefleet login``: remember a fleet server, once it has been seen to accept the token."""

from pathlib import Path
from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.config import Config
from fleet.client.screen import Json, Screen

app = typer.Typer()


@app.command()
def login(
    url: Annotated[str, typer.Argument(help="The server's address, https://host:port.")],
    *,
    token: Annotated[
        str, typer.Option(prompt=True, hide_input=True, envvar="EDGEFLEET_TOKEN", help="The operator's token.")
    ],
    ca: Annotated[Path | None, typer.Option(help="PEM file of the fleet's certificate authority.")] = None,
    as_json: Json = False,
) -> None:
    """Remember a fleet server's address, token and certificate authority."""
    screen = Screen(as_json=as_json)
    chosen = Config(url=config.check_url(url), token=config.check_token(token), ca=config.read_ca(ca) if ca else None)
    with Fleet(chosen) as fleet:
        health = fleet.health()
        fleet.modules()
    file = config.save(chosen)
    document = {"url": chosen.url, "config": str(file), "server": health}
    screen.show(document, lambda it: it.say(f"Logged in to {chosen.url} (edgefleet {health.version}); kept in {file}"))
