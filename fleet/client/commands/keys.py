"""``edgefleet keys``: make the offline signing keys, and found the fleet's trust on them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from securesystemslib.signer import Key

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen
from fleet.client.signing import keys
from fleet.client.signing.offline_keys import new_passphrase
from fleet.client.signing.trusted import Trusted
from modules.errors import BadSettings, EdgefleetError, Invalid
from modules.names import slug
from modules.trust.repository import OnlineKeys

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Make the offline signing keys."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder for the keys.")],
    *,
    team: Annotated[list[str], typer.Option(help="A team that publishes modules; may be repeated.")],
    insecure_demo_keys: Annotated[
        bool, typer.Option("--insecure-demo-keys", help="Leave the keys unencrypted: for a demonstration only.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make root, targets and team keys in a folder, and give the fleet server what they have signed."""
    screen = Screen(as_json=as_json)
    teams = [slug(one, what="team") for one in dict.fromkeys(team)]
    with Fleet(config.load()) as fleet:
        if fleet.tuf("root.json") is not None:
            raise BadSettings(
                "this fleet has its root of trust already",
                element=fleet.url,
                remedy="use the keys that it was founded on, or set up a new server",
            )
        online = _online(fleet.online_keys())
        made = keys.init(
            folder,
            teams=teams,
            online=online,
            passphrase=None if insecure_demo_keys else new_passphrase(),
            now=datetime.now(UTC),
            insecure_demo=insecure_demo_keys,
        )
        try:
            fleet.bootstrap(
                {"root": made.root, "targets": made.targets, "director": made.director, "teams": made.teams}
            )
        except EdgefleetError as error:
            error.remedy = f"{error.remedy}; then remove {folder} and run this again".removeprefix("; then ")
            raise
        Trusted(fleet, config.home()).pin(made.root)
    files = sorted(path.name for path in folder.iterdir())
    screen.show({"folder": str(folder), "teams": teams, "files": files}, lambda it: _made(it, folder, files))
    if insecure_demo_keys:
        screen.remark("These keys are NOT ENCRYPTED: for a demonstration only.")


def _made(screen: Screen, folder: Path, files: list[str]) -> None:
    screen.say(f"The fleet's trust is founded on the keys in {folder}: {', '.join(files)}")
    screen.say(
        "Move this folder away now, to where neither the fleet server nor the network can read it. Two of the three "
        "root keys can replace everything else; team keys belong to the teams. README.txt in it says which is which."
    )


def _online(documents: Mapping[str, Any]) -> OnlineKeys:
    """The server's public keys, each under the id that follows from it."""
    try:
        return OnlineKeys(*(_key(dict(documents[role])) for role in OnlineKeys._fields))
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"the server's online keys cannot be read: {error}", element="tuf-online-keys") from error


def _key(document: dict[str, Any]) -> Key:
    return Key.from_dict(document.pop("keyid"), document)
