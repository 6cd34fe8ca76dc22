"""The command ``edgefleet``: its nouns are listed here and loaded one at a time, so that ``--help`` stays quick."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from fleet.client.screen import show_error, show_problem
from modules import __version__
from modules.errors import BadSettings, EdgefleetError, NoSpace
from modules.program import MAKE_ROOM, disk_takes_no_more

NOUNS: Final = {
    "login": "Remember a fleet server's address, a token, and its certificate authority.",
    "operators": "Say who may use the server, and what they may do.",
    "tokens": "Make, list and revoke tokens of your own, and of your CI.",
    "overview": "Show the fleet at a glance, and what in it needs somebody.",
    "server": "Show how the fleet server stands: its certificates, its broker, its settings.",
    "status": "Say whether the fleet server answers, and what this user's workspace holds.",
    "keys": "Make the offline signing keys, see how they stand, renew and replace them.",
    "teams": "Add and list the teams that may publish modules.",
    "images": "Build, add, list and save the container images that modules run in.",
    "environments": "Build, list, show and save what entry scripts run in.",
    "models": "Register models as modules; list, show and download them.",
    "uploads": "Bring models to the server for others to sign; list, fetch, remove them.",
    "serve-local": "Serve a model, a script or a module on this machine, and again when its files change.",
    "modules": "Sign, check, list and rebase modules.",
    "devices": "Let devices join; list, show, label, empty, command and remove them.",
    "commands": "List, show and cancel commands that devices were given.",
    "broker": "Try what a broker enforces.",
    "secrets": "Give modules tokens and certificates that only their devices can open.",
    "try": "Ask a module on a device or at an endpoint, as somebody who tries it out.",
    "telemetry": "Show what a device measured of itself.",
    "events": "Show what happened that somebody should look at.",
    "audit": "Show, check and export who did what.",
    "export": "Write the fleet's devices, rollouts, reports, telemetry and events into a SQLite file.",
    "rollouts": "Bring a signed module to devices, and watch it arrive.",
    "auto-rollouts": "Have newly signed versions of a model start their rollouts by themselves.",
    "targets": "Attach, list, check and detach where endpoints in the cloud can live.",
    "endpoints": "Serve modules in the cloud: deploy, change, split, scale, keys, tokens, logs, remove.",
    "fallback": "Say who answers instead of devices, until when, and for how much money.",
    "package": "Put models, script and environment into an image, or a folder that Docker builds anywhere.",
    "batch": "Ask a module about a folder of inputs, once, to the end.",
    "simulate": "Let simulated devices join this fleet, to try rollouts.",
}


_AS_UTF_8: Final = "write it in UTF-8, and see that LC_ALL or LANG names a locale with that encoding"

# Where typer has it depends on its version.
_USAGE: Final[Any] = typer.BadParameter.__base__


class Nouns(TyperGroup):
    """Lists the nouns, loads one from ``fleet.client.commands`` when it is called; our errors become exit code 1."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update({name: TyperCommand(name, help=line) for name, line in NOUNS.items()})

    def make_context(self, *args: Any, **more: Any) -> Any:
        with _usage_told(as_json="--json" in sys.argv):
            return super().make_context(*args, **more)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        if listed is None:
            return name, listed, rest
        room = importlib.import_module(f"fleet.client.commands.{str(listed.name).replace('-', '_')}")
        command = typer.main.get_command(room.app)
        command.name = name
        _literally(command)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        # Behind the noun, which has not been read yet.
        words = list(ctx.args)
        as_json = "--json" in words
        try:
            with _usage_told(as_json=as_json):
                return super().invoke(ctx)
        except EdgefleetError as error:
            show_error(error, as_json=as_json)
            raise typer.Exit(1) from error
        except UnicodeEncodeError as error:
            named = next((word for word in words if not word.isprintable()), "")
            untold = BadSettings("not text in this terminal's encoding", element=named, remedy=_AS_UTF_8)
            show_error(untold, as_json=as_json)
            raise typer.Exit(1) from error
        except OSError as error:
            # Without a file's name it is about the output itself, of which modules.program tells, or about a full disk.
            full = disk_takes_no_more(error)
            if error.filename is None and not full:
                raise
            place = (error.filename2 if full else None) or error.filename or "a file of this command's"
            problem = NoSpace if full else BadSettings
            shown = problem(str(error.strerror), element=str(place), remedy=MAKE_ROOM if full else "")
            show_error(shown, as_json=as_json)
            raise typer.Exit(1) from error


@contextmanager
def _usage_told(*, as_json: bool) -> Iterator[None]:
    """Wrong usage is a document too, beside the words of typer's on stderr."""
    try:
        yield
    except _USAGE as error:
        if as_json:
            show_problem("usage", error.format_message(), remedy="see --help")
        raise


def _literally(command: Any) -> None:
    """Have help shown as it is written: brackets in it are not markup."""
    for one in (command, *command.params):
        if getattr(one, "help", None):
            one.help = escape(one.help)
    for inner in getattr(command, "commands", {}).values():
        _literally(inner)


app = typer.Typer(cls=Nouns, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:  # noqa: FBT001  typer calls it so
    if asked:
        typer.echo(f"edgefleet {__version__}")
        raise typer.Exit


@app.callback()
def edgefleet(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Publish models as signed modules, and run them on a fleet of devices."""
