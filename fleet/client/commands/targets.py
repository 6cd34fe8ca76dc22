"""``edgefleet targets``: where endpoints in the cloud can live."""

from pathlib import Path
from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen
from modules.images import GATEWAY_IMAGE
from modules.names import slug

app = typer.Typer(no_args_is_help=True, help="Attach, list, check and detach where endpoints in the cloud can live.")
Name = Annotated[str, typer.Argument(help="The target's name.")]


@app.command()
def attach(
    name: Name,
    docker: Annotated[
        str, typer.Option(help="The container engine: unix:///var/run/docker.sock, ssh://user@host, tcp://host:2376.")
    ],
    address: Annotated[str, typer.Option(help="The host's name or address, as clients of endpoints find it.")] = "",
    bind: Annotated[str, typer.Option(help="The address of the host at which endpoints listen.")] = "127.0.0.1",
    gateway_image: Annotated[str, typer.Option(help="The gateway's image on that host.")] = GATEWAY_IMAGE,
    batch_place: Annotated[
        list[str] | None,
        typer.Option(help="A folder or volume of the host that batch jobs may use; may be repeated."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="For tcp://: whom to trust; a file of the fleet server.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="For tcp://: the fleet server's certificate there.")] = None,
    key: Annotated[Path | None, typer.Option(help="For tcp://: the certificate's key there.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Attach a container host, if it answers and has the gateway's image; or change how it is reached."""
    attached = {"docker": docker, "bind": bind, "name": address or bind, "gateway_image": gateway_image}
    attached |= {"batch_places": ",".join(batch_place)} if batch_place else {}
    attached |= {option: str(file) for option, file in (("ca", ca), ("certificate", certificate), ("key", key)) if file}
    with Fleet(config.load()) as fleet:
        done = fleet.attach_target(slug(name, what="target"), "container", attached)
    said = done["is"]
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{name} is attached: {said['engine']} on {said['platform']}"))


@app.command("list")
def list_targets(*, as_json: Json = False) -> None:
    """List the targets."""
    with Fleet(config.load()) as fleet:
        found = fleet.targets()
    rows = [(one["name"], one["kind"], one["attached"]["docker"], one["endpoints"], one["trouble"]) for one in found]
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("TARGET", "KIND", "REACHED AT", "ENDPOINTS", "TROUBLE"), rows, empty="No targets: edgefleet targets attach"
        ),
    )


@app.command()
def check(name: Name, *, as_json: Json = False) -> None:
    """Say whether a target answers now, and what it is."""
    with Fleet(config.load()) as fleet:
        said = fleet.check_target(slug(name, what="target"))
    Screen(as_json=as_json).show(said, lambda it: it.fields(list(said.items())))


@app.command()
def detach(
    name: Name,
    *,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="With its endpoints, of a host that will never answer again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let a target go that has no endpoints."""
    with Fleet(config.load()) as fleet:
        done = fleet.detach_target(slug(name, what="target"), abandon=abandon)
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{name} is detached"))
