"""The command ``edgefleet``: its nouns are listed here and loaded one at a time, so that ``--help`` stays quick."""

import importlib
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from fleet.client.screen import show_error
from modules.errors import EdgefleetError

NOUNS: Final = {
    "login": "Remember a fleet server's address, token and certificate authority.",
    "status": "Say whether the fleet server answers, and what this user's workspace holds.",
    "keys": "Make the offline signing keys.",
    "images": "Build, add, list and save the container images that modules run in.",
    "environments": "Build, list, show and save what entry scripts run in.",
    "models": "Register models as modules; list, show and download them.",
    "serve-local": "Serve a model, a script or a module on this machine, and again when its files change.",
    "modules": "Sign, check, list and rebase modules.",
    "devices": "Let devices join; list, show, label and empty them.",
    "events": "Show what happened that somebody should look at.",
    "rollouts": "Bring a signed module to devices, and watch it arrive.",
}


class Nouns(TyperGroup):
    """Lists the nouns, loads one from ``fleet.client.commands`` when it is called; our errors become exit code 1."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update({name: TyperCommand(name, help=line) for name, line in NOUNS.items()})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        if listed is None:
            return name, listed, rest
        room = importlib.import_module(f"fleet.client.commands.{str(listed.name).replace('-', '_')}")
        command = typer.main.get_command(room.app)
        command.name = name
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EdgefleetError as error:
            show_error(ctx, error)
            raise typer.Exit(1) from error


app = typer.Typer(cls=Nouns, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def edgefleet() -> None:
    """Publish models as signed modules, and run them on a fleet of devices."""
