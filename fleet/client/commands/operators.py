"""``edgefleet operators``: who may use the server."""

from typing import Annotated

import typer

from fleet.client import config, people
from fleet.client.api import Fleet
from fleet.client.people import Operator, Role
from fleet.client.screen import Json, Screen, when

app = typer.Typer(no_args_is_help=True, help="Say who may use the server, and what they may do.")

Name = Annotated[str, typer.Argument(help="The operator's name.")]
Roles = Annotated[list[str], typer.Argument(help="What they may do: viewer, operator, and others (docs/operate.md).")]
Selector = Annotated[str, typer.Option(help="Only for the devices with these labels, as site=berlin.")]
Team = Annotated[list[str] | None, typer.Option(help="Only for modules of this team; again for more.")]


@app.command()
def add(
    name: Name,
    roles: Roles,
    selector: Selector = "*",
    team: Team = None,
    *,
    sso: Annotated[
        bool, typer.Option("--sso", help="They have no password, and log in at the identity provider.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add an operator, and print the password once that they have to change first."""
    with Fleet(config.load()) as fleet:
        made = people.add_operator(fleet, name, _roles(roles, selector, team), password=not sso)
    Screen(as_json=as_json).show(made, lambda it: it.say(_password(made.name, made.password_once)))


@app.command("list")
def list_operators(*, as_json: Json = False) -> None:
    """List all operators."""
    with Fleet(config.load()) as fleet:
        found = people.operators(fleet)
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("NAME", "ROLES", "STATE", "LAST LOGIN"),
            ((one.name, ", ".join(map(str, one.roles)), _state(one), when(one.last_login)) for one in found),
            empty="No operators yet: edgefleet operators add NAME ROLE",
        ),
    )


@app.command("roles")
def set_roles(name: Name, roles: Roles, selector: Selector = "*", team: Team = None, *, as_json: Json = False) -> None:
    """Give an operator these roles and no others; their sessions end."""
    with Fleet(config.load()) as fleet:
        shown = people.set_roles(fleet, name, _roles(roles, selector, team))
    said = f"{shown.name}: {', '.join(map(str, shown.roles))}"
    Screen(as_json=as_json).show(shown, lambda it: it.say(said))


@app.command()
def disable(name: Name, *, as_json: Json = False) -> None:
    """Let an operator in no more: their sessions and tokens hold no more, at once."""
    _set_disabled(name, disabled=True, as_json=as_json)


@app.command()
def enable(name: Name, *, as_json: Json = False) -> None:
    """Let a disabled operator in again; tokens that were not revoked hold again."""
    _set_disabled(name, disabled=False, as_json=as_json)


@app.command("reset-password")
def reset_password(name: Name, *, as_json: Json = False) -> None:
    """Print a new random password once, which they have to change first; their sessions end."""
    with Fleet(config.load()) as fleet:
        password = people.reset_password(fleet, name)
    document = {"name": name, "password_once": password}
    Screen(as_json=as_json).show(document, lambda it: it.say(_password(name, password)))


def _set_disabled(name: str, *, disabled: bool, as_json: bool) -> None:
    with Fleet(config.load()) as fleet:
        shown = people.disable(fleet, name, disabled=disabled)
    Screen(as_json=as_json).show(shown, lambda it: it.say(f"{shown.name}: {_state(shown)}"))


def _roles(names: list[str], selector: str, team: list[str] | None) -> list[Role]:
    return [Role(one, selector, None if team is None else tuple(team)) for one in names]


def _password(name: str, password: str) -> str:
    if not password:
        return f"{name} is added, and logs in at the identity provider"
    return f"{name} has this password, which is shown once and has to be changed first:\n{password}"


def _state(one: Operator) -> str:
    if one.disabled is not None:
        return f"disabled {when(one.disabled)}"
    return "has to change the password" if one.must_change_password else "may log in"
