"""``edgefleet teams``: add and list the teams that may publish modules."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when
from fleet.client.signing.keys import add_team_key, key_file
from fleet.client.signing.offline_keys import new_passphrase, owner_signers, team_signers
from fleet.client.signing.trusted import Team, Trusted
from modules.errors import BadSettings
from modules.names import slug
from modules.trust import repository, roles

app = typer.Typer(no_args_is_help=True, help="Add and list the teams that may publish modules.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The new team.")],
    *,
    keys: Annotated[
        list[str],
        typer.Option(
            "--keys",
            "--key",
            help="Folder of the owner's offline keys, where targets.pem names the teams; or the targets key as a "
            "file or signer URI.",
        ),
    ],
    team_keys: Annotated[
        Path | None, typer.Option(help="Folder for the team's own key, where it is not that of the owner's keys.")
    ] = None,
    insecure_demo_keys: Annotated[
        bool, typer.Option("--insecure-demo-keys", help="Leave the key unencrypted: for a demonstration only.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a team's key, name the team with the owner's key, and give the fleet server what both have signed."""
    screen, team, folder = Screen(as_json=as_json), slug(name, what="team"), team_keys or _folder(keys)
    owner = owner_signers(keys)
    with Fleet(config.load()) as fleet:
        trusted = Trusted(fleet, config.home())
        present = trusted.targets_metadata()
        if team in [one.team for one in trusted.teams()]:
            raise BadSettings(
                f"this fleet has a team {team} already", element=name, remedy="sign with its key, or add another name"
            )
        file = key_file(folder, roles.team_role(team))
        if file.exists():
            # Of an earlier try that the server did not take.
            signers = team_signers([str(folder)], team)
        else:
            passphrase = None if insecure_demo_keys else new_passphrase()
            signers = [add_team_key(folder, team=team, passphrase=passphrase, insecure_demo=insecure_demo_keys)]
        now, public = datetime.now(UTC), [signer.public_key for signer in signers]
        fleet.add_team(
            team,
            targets=repository.delegate_team(present, team=team, keys=public, signers=owner, now=now),
            metadata=repository.create_team(team=team, signers=signers, now=now),
        )
    screen.show(
        {"team": team, "key": str(file)},
        lambda it: it.say(f"Team {team} may publish now. Its key is {file}: move it to the team's machine or its CI."),
    )


def _folder(keys: Sequence[str]) -> Path:
    if len(keys) == 1 and Path(keys[0]).is_dir():
        return Path(keys[0])
    raise BadSettings(
        "it is not said where the team's new key goes",
        element="--team-keys",
        remedy="name a folder: --team-keys FOLDER",
    )


@app.command("list")
def list_teams(*, as_json: Json = False) -> None:
    """List the teams that the fleet's owner has named, as their keys have signed it."""
    with Fleet(config.load()) as fleet:
        teams = Trusted(fleet, config.home()).teams()
    Screen(as_json=as_json).show(
        teams,
        lambda it: it.table(
            ("TEAM", "RELEASES", "SIGNED UNTIL", "KEYS"),
            (_row(one) for one in teams),
            empty="No teams yet: edgefleet teams add NAME --keys FOLDER",
        ),
    )


def _row(one: Team) -> tuple[object, ...]:
    return one.team, one.releases, when(one.expires), ", ".join(key[:12] for key in one.keys)
