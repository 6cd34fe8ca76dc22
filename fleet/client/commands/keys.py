"""``edgefleet keys``: make the offline signing keys, found the fleet's trust on them, and see how they stand."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.commands import key_changes
from fleet.client.commands.online import online_keys
from fleet.client.screen import Json, Screen, when
from fleet.client.signing import keys
from fleet.client.signing.offline_keys import new_passphrase
from fleet.client.signing.standing import Standing, standings
from fleet.client.signing.trusted import Trusted
from modules.errors import BadSettings, EdgefleetError
from modules.names import slug
from modules.trust import roles

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Make the offline signing keys, see how they stand, renew and replace them."""


for _change in (key_changes.renew, key_changes.rotate, key_changes.revoke, key_changes.sign, key_changes.submit):
    app.command()(_change)


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
        online = online_keys(fleet.online_keys())
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
                | _told(fleet.url, folder)
            )
        except EdgefleetError as error:
            error.remedy = f"{error.remedy}; then remove {folder} and run this again".removeprefix("; then ")
            raise
        Trusted(fleet, config.home()).pin(made.root)
    files = sorted(path.name for path in folder.iterdir())
    screen.show({"folder": str(folder), "teams": teams, "files": files}, lambda it: _made(it, folder, files))
    if insecure_demo_keys:
        screen.remark("These keys are NOT ENCRYPTED: for a demonstration only.")


@app.command()
def make(
    file: Annotated[Path, typer.Argument(help="A new file for the key; its public half goes beside it, as .pub.")],
    *,
    insecure_demo_keys: Annotated[
        bool, typer.Option("--insecure-demo-keys", help="Leave the key unencrypted: for a demonstration only.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make one key, to be named with keys rotate; needs no network."""
    screen = Screen(as_json=as_json)
    passphrase = None if insecure_demo_keys else new_passphrase()
    made = keys.make_key(file, passphrase=passphrase, insecure_demo=insecure_demo_keys)
    public = keys.public_file(file)
    screen.show(
        {"file": str(file), "public": str(public), "keyid": made.public_key.keyid},
        lambda it: it.say(
            f"Key {made.public_key.keyid} is in {file}, its public half in {public}. The public half may "
            "travel; the key stays with its holder."
        ),
    )


@app.command()
def status(*, as_json: Json = False) -> None:
    """Show each role: its keys, how many must sign, until when it holds, and where its keys should be."""
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet:
        found = standings(Trusted(fleet, config.home()).present(), fleet.staged_keys(), datetime.now(UTC))
    screen.show(
        found,
        lambda it: it.table(
            ("ROLE", "VERSION", "SIGN", "HOLDS UNTIL", "DAYS LEFT", "STATE", "KEYS", "WHERE THE KEYS SHOULD BE"),
            (_row(one) for one in found),
            empty="No roles.",
        ),
    )
    for one in found:
        if one.state != "ok":
            screen.remark(_due(one))
        if one.staged:
            screen.remark(f"{one.role}: key {one.staged[:12]} waits on the server: edgefleet keys rotate {one.role}")


def _row(one: Standing) -> tuple[object, ...]:
    until = when(one.expires)[:10] if one.expires else "-"
    days = "-" if one.days_left is None else one.days_left
    names = " ".join(key[:12] for key in one.keys)
    return one.role, one.version or "-", f"{one.threshold} of {len(one.keys)}", until, days, one.state, names, one.where


def _due(one: Standing) -> str:
    if one.role in {roles.SNAPSHOT, roles.TIMESTAMP}:
        return f"{one.role} has expired, which the fleet server renews by itself: look at its log."
    ended = "has expired, and devices accept nothing new" if one.state == "expired" else "is past half of its life"
    return f"{one.role} {ended}. Sign it again: edgefleet keys renew {one.role} --key KEY"


def _told(url: str, folder: Path) -> dict[str, str]:
    """Where the server is on this very machine, it is told where the keys are, to refuse to start beside them."""
    return {"keys_at": str(folder.absolute())} if config.on_this_machine(url) else {}


def _made(screen: Screen, folder: Path, files: list[str]) -> None:
    screen.say(f"The fleet's trust is founded on the keys in {folder}: {', '.join(files)}")
    screen.say(
        "Move this folder away now, to where neither the fleet server nor the network can read it. Two of the three "
        "root keys can replace everything else; team keys belong to the teams. README.txt in it says which is which."
    )
