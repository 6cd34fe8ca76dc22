"""``edgefleet commands``: the commands that devices were given, and what became of them."""

from pathlib import Path
from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.command_view import show_command
from fleet.client.new_file import check_new, write_new
from fleet.client.screen import Json, Screen, when
from modules.names import device_id

app = typer.Typer(no_args_is_help=True, help="List, show and cancel commands that devices were given.")
Id = Annotated[str, typer.Argument(help="The command's id.")]


@app.command("list")
def list_commands(
    *,
    device: Annotated[str | None, typer.Option(help="Those of one device.")] = None,
    name: Annotated[str | None, typer.Option(help="Those of one name: ping, logs, diagnose...")] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            help="Where they stand: waiting, sent, running, done, failed, refused, expired, cancelled; may be repeated."
        ),
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Those that were given together.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, the newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """List commands, the newest first."""
    wanted = None if device is None else device_id(device)
    with Fleet(config.load()) as fleet:
        found = fleet.commands(limit=limit, device=wanted, name=name, state=state or None, batch=batch)
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("COMMAND", "NAME", "DEVICE", "SLOT", "STATE", "GIVEN", "BY"),
            ((one.id, one.name, one.device, one.slot or "", one.state, when(one.issued), one.by) for one in found),
            empty="No commands: edgefleet devices command DEVICE ping",
        ),
    )


@app.command()
def show(
    command: Id,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A new file for what the device sent as the result.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one command: who gave it, where it stands, and what the device said."""
    if out is not None:
        check_new(out)
    with Fleet(config.load()) as fleet:
        found = fleet.command(command)
        if out is not None:
            write_new(out, fleet.command_result(command).data)
    Screen(as_json=as_json).show(found, lambda it: show_command(it, found))


@app.command()
def cancel(command: Id, *, as_json: Json = False) -> None:
    """Send a command no more, and take no more answers; what the device has begun it finishes."""
    with Fleet(config.load()) as fleet:
        found = fleet.cancel_command(command)
    sent = "the device may have begun it" if found.sent is not None else "it was not sent"
    Screen(as_json=as_json).show(found, lambda it: it.say(f"{found.name} for {found.device} is cancelled; {sent}"))
