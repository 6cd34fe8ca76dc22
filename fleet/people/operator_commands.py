"""``edgefleet-fleet operators ...``: on the server's machine, for whoever owns the data folder, without a log-in."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from fleet.audit import local
from fleet.people import operators, passwords
from fleet.people.roles import ROLES, Grant
from fleet.settings import Settings
from fleet.setup import opened

Work = Callable[[Connection, float, argparse.Namespace], dict[str, Any]]


def add_to(parser: argparse.ArgumentParser) -> None:
    """The commands below ``operators``."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = _command(commands, "add", "add an operator, and print a random password once", _add)
    add.add_argument("roles", nargs="+", metavar="ROLE", help=f"one or more of {', '.join(sorted(ROLES))}")
    _bounds(add)
    listing = commands.add_parser("list", help="list all operators", description="list all operators")
    listing.set_defaults(run=_run(_list))
    _common(listing)
    change = _command(commands, "roles", "give an operator these roles and no others", _roles)
    change.add_argument("roles", nargs="+", metavar="ROLE", help=f"one or more of {', '.join(sorted(ROLES))}")
    _bounds(change)
    _forced(change)
    _forced(_command(commands, "disable", "let an operator in no more: sessions and tokens end at once", _disable))
    _command(commands, "enable", "let a disabled operator in again", _enable)
    _command(commands, "reset-password", "print a new random password once, to be changed first", _reset)


def _command(commands: Any, name: str, text: str, work: Work) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("name", help="the operator's name")
    command.set_defaults(run=_run(work))
    _common(command)
    return command


def _common(command: argparse.ArgumentParser) -> None:
    # Given before or behind the command: here it must not undo what stood before.
    command.add_argument("--data", type=Path, default=argparse.SUPPRESS, help="the data folder")
    command.add_argument("--json", action="store_true", help="print one JSON document")


def _bounds(command: argparse.ArgumentParser) -> None:
    command.add_argument("--selector", default="*", help="for the devices with these labels alone, as site=berlin")
    command.add_argument("--team", action="append", help="for the modules of this team alone (again for more)")


def _forced(command: argparse.ArgumentParser) -> None:
    command.add_argument("--force", action="store_true", help="though nobody is left then who may do everything")


def _run(work: Work) -> Callable[[Settings, argparse.Namespace], int]:
    def run(settings: Settings, options: argparse.Namespace) -> int:
        database = opened(settings)
        try:
            with database.write() as connection:
                done = work(connection, time.time(), options)
        finally:
            database.close()
        print(json.dumps(done, indent=2) if options.json else "\n".join(_lines(done)))
        return 0

    return run


def _lines(done: dict[str, Any]) -> list[str]:
    if "operators" in done:
        return [_line(one) for one in done["operators"]] or ["There are no operators: edgefleet-fleet operators add"]
    said = [_line(done)]
    if "password_once" in done:
        said += ["This password is shown once and has to be changed first:", done["password_once"]]
    return said


def _line(one: dict[str, Any]) -> str:
    state = "disabled" if one["disabled"] is not None else "may log in"
    return f"{one['name']}  {', '.join(role['role'] for role in one['roles'])}  {state}"


def _grants(options: argparse.Namespace) -> list[Grant]:
    teams = None if options.team is None else tuple(options.team)
    return [Grant(role, options.selector, teams) for role in options.roles]


def _audited(connection: Connection, now: float, command: str, options: argparse.Namespace) -> dict[str, Any]:
    """The operator as they are now; the row of the audit log is of the same transaction."""
    local.add(connection, now, f"operators {command}", options.name)
    return operators.shown(operators.get(connection, options.name))


def _add(connection: Connection, now: float, options: argparse.Namespace) -> dict[str, Any]:
    password = passwords.made()
    hashed = passwords.Passwords().hashed(password)
    operators.add(connection, now, options.name, _grants(options), password=hashed, by=local.who())
    return _audited(connection, now, "add", options) | {"password_once": password}


def _list(connection: Connection, _now: float, _options: argparse.Namespace) -> dict[str, Any]:
    return {"operators": operators.every(connection)}


def _roles(connection: Connection, now: float, options: argparse.Namespace) -> dict[str, Any]:
    operators.set_roles(connection, now, options.name, _grants(options), by=local.who(), force=options.force)
    return _audited(connection, now, "roles", options)


def _disable(connection: Connection, now: float, options: argparse.Namespace) -> dict[str, Any]:
    operators.disable(connection, now, options.name, disabled=True, by=local.who(), force=options.force)
    return _audited(connection, now, "disable", options)


def _enable(connection: Connection, now: float, options: argparse.Namespace) -> dict[str, Any]:
    operators.disable(connection, now, options.name, disabled=False, by=local.who())
    return _audited(connection, now, "enable", options)


def _reset(connection: Connection, now: float, options: argparse.Namespace) -> dict[str, Any]:
    row = operators.get(connection, options.name)
    password = passwords.made()
    hashed = passwords.Passwords().hashed(password)
    operators.set_password(connection, now, row, hashed, given=True, by=local.who())
    return _audited(connection, now, "reset-password", options) | {"password_once": password}
