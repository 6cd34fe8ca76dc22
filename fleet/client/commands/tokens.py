"""``edgefleet tokens``: tokens of one's own, and of a CI."""

from typing import Annotated

import typer

from fleet.client import arguments, config, people
from fleet.client.api import Fleet
from fleet.client.people import Role, Token
from fleet.client.screen import Json, Screen, when
from modules.errors import Invalid

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke tokens of your own, and of your CI.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is called, as ci.")],
    role: Annotated[
        list[str] | None, typer.Option(help="What it may do; again for more. Not given: all that you may.")
    ] = None,
    selector: Annotated[str, typer.Option(help="Only for the devices with these labels, as site=berlin.")] = "*",
    team: Annotated[list[str] | None, typer.Option(help="Only for modules of this team; again for more.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it holds: 24h, 90d.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a token, and print it once."""
    life = None if expires is None else int(arguments.seconds(expires, option="--expires"))
    if not role and (team or selector != "*"):
        raise Invalid("a bound needs a role", element="--selector or --team", remedy="say with --role what it may do")
    roles = [Role(one, selector, None if team is None else tuple(team)) for one in role] if role else None
    with Fleet(config.load()) as fleet:
        made = people.make_token(fleet, name, roles, life)
    Screen(as_json=as_json).show(made, lambda it: it.say(made.token))


@app.command("list")
def list_tokens(*, as_json: Json = False) -> None:
    """List your tokens; everybody's, if you may see the operators."""
    with Fleet(config.load()) as fleet:
        found = people.tokens(fleet)
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("ID", "NAME", "OPERATOR", "ROLES", "ENDS", "LAST USED"),
            (
                (one.id, one.name, one.operator or "", ", ".join(map(str, one.roles)), _end(one), when(one.last_used))
                for one in found
            ),
            empty="No tokens yet: edgefleet tokens create NAME",
        ),
    )


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its number, or the name of one of yours.")], *, as_json: Json = False
) -> None:
    """Revoke a token, and all tokens that were made with it, at once."""
    with Fleet(config.load()) as fleet:
        gone = people.revoke_token(fleet, token)
    said = f"revoked: {', '.join(map(str, gone))}"
    Screen(as_json=as_json).show({"revoked": gone}, lambda it: it.say(said))


def _end(one: Token) -> str:
    return f"revoked {when(one.revoked)}" if one.revoked is not None else when(one.expires)
