"""``edgefleet login``: remember a fleet server, once it has been seen to accept a token, or a name and password."""

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from fleet.client import config, people
from fleet.client.api import Fleet
from fleet.client.config import Config
from fleet.client.screen import Json, Screen
from modules.errors import BadSettings

app = typer.Typer()
_OTHER_MARKS: Final = re.compile(r"[^a-z0-9]+")


@app.command()
def login(
    url: Annotated[str, typer.Argument(help="The server's address, https://host:port.")],
    *,
    token: Annotated[
        str | None, typer.Option(envvar="EDGEFLEET_TOKEN", help="An operator's token; asked for if there is no --user.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Your name as an operator: the password is asked for, and a token made of it.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM file of the fleet's certificate authority.")] = None,
    as_json: Json = False,
) -> None:
    """Remember a fleet server's address, a token, and its certificate authority."""
    screen = Screen(as_json=as_json)
    chosen = Config(url=config.check_url(url), token="", ca=config.read_ca(ca) if ca else None)
    if user is not None:
        text = _of_password(screen, chosen, user)
    else:
        text = token or str(typer.prompt("Token", hide_input=True, err=True))
    chosen = msgspec.structs.replace(chosen, token=config.check_token(text))
    with Fleet(chosen) as fleet:
        health = fleet.health()
        me = people.myself(fleet)
    file = config.save(chosen)
    document = {"url": chosen.url, "config": str(file), "server": health, "name": me.name}
    said = f"Logged in to {chosen.url} (edgefleet {health.version}) as {me.name}; kept in {file}"
    screen.show(document, lambda it: it.say(said))


def _of_password(screen: Screen, chosen: Config, user: str) -> str:
    """A token for this machine, of the operator's own; a password that was given to them is changed before."""
    password = _asked("EDGEFLEET_PASSWORD", "Password")
    with Fleet(chosen) as fleet:
        entered = people.enter(fleet, user, password)
        if entered.must_change_password:
            screen.remark("This password was given to you; choose another one, of at least 12 characters.")
            new = _asked("EDGEFLEET_NEW_PASSWORD", "New password", again=True)
            entered.change_password(password, new)
            password = new
            entered = people.enter(fleet, user, password)
        try:
            return entered.personal_token(_machine()).token
        finally:
            entered.end()


def _asked(variable: str, text: str, *, again: bool = False) -> str:
    """A password from the environment, or typed; never from the command line, where other users see it."""
    found = os.environ.get(variable) or str(typer.prompt(text, hide_input=True, confirmation_prompt=again, err=True))
    if not found:
        raise BadSettings("there is no password", element=variable, remedy="type it, or set the variable")
    return found


def _machine() -> str:
    """A name for this machine's token: another log-in here takes its place."""
    return f"login-{_OTHER_MARKS.sub('-', socket.gethostname().lower()).strip('-') or 'here'}"[:63].strip("-")
