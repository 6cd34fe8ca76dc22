"""The command line on the device: ``edgefleet-agent enroll | run | status | doctor | halt | settings | images``.

A command's own part is loaded when it is called: what only enrolment or a diagnosis needs is not in the memory of an
agent that runs for months.
"""

import argparse
import asyncio
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.occupied import occupied
from agent.owner import act_as_owner
from agent.settings import Settings, load
from modules import __version__, program
from modules.errors import BadSettings, EdgefleetError
from modules.names import device_id
from modules.words import log_lines

_log = logging.getLogger("agent")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for an error that is explained, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        settings = load(arguments.config)
        return int(arguments.command(arguments, settings))
    except EdgefleetError as error:
        print(f"edgefleet-agent: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgefleet-agent", description="The edgefleet program on a device.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--config", type=Path, help="settings file (default /etc/edgefleet/agent.toml)")
    commands = parser.add_subparsers(required=True, metavar="command")

    join = commands.add_parser("enroll", help="join a fleet with a join bundle")
    join.add_argument("bundle", type=Path, help="the file that the operator made with: edgefleet devices join")
    join.add_argument("--name", help="the device id to ask for; the server decides")
    join.set_defaults(command=_enroll)

    commands.add_parser("run", help="run the agent (what systemd calls)").set_defaults(command=_run)

    show = commands.add_parser("status", help="what runs on this device")
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(
        command=lambda arguments, settings: _part("status", settings).show(settings, as_json=arguments.json)
    )

    check = commands.add_parser("doctor", help="check what the agent needs, and say what to do")
    check.add_argument("--json", action="store_true", help="one JSON document")
    check.set_defaults(
        command=lambda arguments, settings: _part("doctor", settings).examine(settings, as_json=arguments.json)
    )

    end = commands.add_parser("halt", help="stop every module of this device; the agent must not be running")
    end.add_argument("--json", action="store_true", help="one JSON document")
    end.set_defaults(command=lambda arguments, settings: _part("halt", settings).halt(settings, as_json=arguments.json))

    listing = commands.add_parser("settings", help="print the settings in force as JSON")
    listing.set_defaults(command=_settings)

    images = commands.add_parser("images", help="container images on this device").add_subparsers(required=True)
    side = images.add_parser("import", help="bring an image in from a file instead of over the network")
    side.add_argument("file", type=Path, help="what docker save, podman save or edgefleet images save wrote")
    side.add_argument("--json", action="store_true", help="one JSON document")
    side.set_defaults(command=_import)
    return parser


def _part(name: str, settings: Settings, *, make: bool = False) -> Any:
    """A command's own part, with which the program goes on as the owner of the state folder."""
    # In this order: another user may not be able to read where root's Python lives.
    part = importlib.import_module(f"agent.{name}")
    act_as_owner(Path(settings.state), make=make)
    return part


def _enroll(arguments: argparse.Namespace, settings: Settings) -> int:
    try:
        bundle = arguments.bundle.read_bytes()
    except OSError as error:
        print(f"edgefleet-agent: {arguments.bundle}: {error.strerror}", file=sys.stderr)
        return 1
    name = device_id(arguments.name) if arguments.name else None
    identity = _part("enroll", settings, make=True).enroll(bundle, settings.identity, name=name)
    print(f"enrolled as {identity.device} at {identity.fleet}")
    return 0


def _import(arguments: argparse.Namespace, settings: Settings) -> int:
    # Opened before the program goes on as another user, who may not read what root has brought.
    try:
        archive = arguments.file.open("rb")
    except OSError as error:
        raise BadSettings(
            str(error.strerror), element=str(arguments.file), remedy="name a file that can be read"
        ) from error
    with archive:
        return int(_part("side_load", settings, make=True).import_image(archive, settings, as_json=arguments.json))


def _run(_: argparse.Namespace, settings: Settings) -> int:
    log_lines(settings.log_level.upper(), "%(asctime)s %(levelname)s %(name)s %(message)s")
    wiring = _part("wiring", settings, make=True)
    _log.info("edgefleet-agent %s, state in %s", __version__, settings.state)
    ours = occupied(Path(settings.runtime), make=True, otherwise="set a runtime folder of its own for each agent")
    with occupied(Path(settings.state)), ours:
        asyncio.run(wiring.run(settings))
    return 0


def _settings(_: argparse.Namespace, settings: Settings) -> int:
    print(msgspec.json.format(msgspec.json.encode(settings)).decode())
    return 0


if __name__ == "__main__":
    program.run("edgefleet-agent", main)
