"""``edgefleet uploads``: models' files that were brought to the server, for who has the team's key."""

from pathlib import Path
from typing import Annotated

import typer

from fleet.client import config, graphs
from fleet.client.api import Fleet
from fleet.client.publishing import uploads
from fleet.client.screen import Json, Screen, size, when
from modules.names import digest as digest_of
from modules.names import slug

app = typer.Typer(no_args_is_help=True, help="Bring models to the server for others to sign; list, fetch, remove them.")
Team = Annotated[str, typer.Option(help="The team that it was brought for.")]
Name = Annotated[str, typer.Argument(metavar="DIGEST", help="sha256:...")]


@app.command("list")
def list_uploads(*, as_json: Json = False) -> None:
    """List what was brought and not removed yet, the newest first."""
    with Fleet(config.load()) as fleet:
        found = uploads.ask_all(fleet)
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("TEAM", "FILE", "SIZE", "BROUGHT", "BY", "SIGNED IN", "KEPT UNTIL", "DIGEST"),
            (
                (
                    *(one.team, one.name, size(one.length), when(one.created), one.by),
                    *(_signed(one), when(one.expires), one.digest),
                )
                for one in found.uploads
            ),
            empty="Nothing was uploaded: edgefleet uploads send FILE --team TEAM, or the console's page Modules",
        ),
    )


@app.command()
def send(file: Annotated[Path, typer.Argument(help="The file.")], *, team: Team, as_json: Json = False) -> None:
    """Bring a model's file to the server; nothing of it runs there, and no device can get it."""
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet, screen.progress() as step:
        sent = uploads.send(fleet, slug(team, what="team"), file, step)
    screen.show(sent, lambda it: _show(it, sent))


@app.command()
def show(digest: Name, *, team: Team, as_json: Json = False) -> None:
    """Show one upload, and how it is signed."""
    with Fleet(config.load()) as fleet:
        found = uploads.ask(fleet, slug(team, what="team"), digest_of(digest))
    Screen(as_json=as_json).show(found, lambda it: _show(it, found))


@app.command()
def fetch(
    digest: Name,
    *,
    team: Team,
    to: Annotated[Path, typer.Option("--to", help="Folder to write to; made if it is not there.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write an upload into a folder, checked against its digest."""
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet, screen.progress() as step:
        place = uploads.fetch(fleet, slug(team, what="team"), digest_of(digest), to, step)
    screen.show(str(place), lambda it: it.say(str(place)))


@app.command()
def remove(digest: Name, *, team: Team, as_json: Json = False) -> None:
    """Take an upload out of the server; modules that were made of it stay."""
    with Fleet(config.load()) as fleet:
        done = uploads.remove(fleet, slug(team, what="team"), digest_of(digest))
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{digest} is removed"))


def _signed(upload: uploads.Upload) -> str:
    return ", ".join(upload.signed[:3]) + ("…" if len(upload.signed) > 3 else "") or "nothing yet"  # noqa: PLR2004


def _show(screen: Screen, upload: uploads.Upload) -> None:
    screen.fields(
        [
            ("file", upload.name),
            ("digest", upload.digest),
            ("size", size(upload.length)),
            ("team", upload.team),
            ("brought", f"{when(upload.created)} by {upload.by}"),
            ("signed in", _signed(upload)),
            ("kept until", when(upload.expires)),
        ]
    )
    if upload.graph is not None:
        graphs.show(screen, upload.graph)
    for name, where in upload.external.items():
        screen.say(f"Its weights are in {name}" + (f": {where}" if where else ", which was not uploaded"))
    screen.say(
        f"Sign it: edgefleet models register --upload {upload.digest} --name NAME --team {upload.team} --keys FOLDER"
    )
