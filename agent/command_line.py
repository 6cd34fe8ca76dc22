"""What may be written after ``edgefleet-agent``, and the commands that end soon.

A command's own part is loaded when it is called: what only enrolment or a diagnosis needs is not in the memory of an
agent that runs for months. Nor is this, where it was started by ``edgefleet-agent run`` alone.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent.running import part, run
from agent.settings import Settings, load
from modules import __version__
from modules.errors import BadSettings
from modules.fingerprint import spoken
from modules.names import device_id
from modules.protocol.enrollment import LIMIT, EnrollPending
from modules.protocol.join_code import is_code

# How ``enroll --no-wait`` ends where an operator has still to approve.
WAITS: Final = 3


def call(words: Sequence[str]) -> int:
    """Run the command that these words name; returns its exit code.

    Raises:
        EdgefleetError: as the command says.
        SystemExit: the words are not a command's, or ask for help.
    """
    arguments = parser().parse_args(words)
    return int(arguments.command(arguments, load(arguments.config)))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="edgefleet-agent", description="The edgefleet program on a device.")
    made.add_argument("--version", action="version", version=__version__)
    made.add_argument("--config", type=Path, help="settings file (default /etc/edgefleet/agent.toml)")
    commands = made.add_subparsers(required=True, metavar="command")

    join = commands.add_parser("enroll", help="join a fleet with a join bundle or a claim")
    join.add_argument(
        "bundle",
        type=Path,
        help="the file that the operator made with: edgefleet devices join, readmit or claim;"
        " - reads it, or what its QR code says, from standard input",
    )
    join.add_argument("--name", help="the device id to ask for; the server decides")
    join.add_argument(
        "--no-wait", action="store_true", help="where an operator has to approve, end with 3; the same command goes on"
    )
    join.set_defaults(command=_enroll)

    commands.add_parser("run", help="run the agent (what systemd calls)").set_defaults(
        command=lambda _, settings: run(settings)
    )

    show = commands.add_parser("status", help="what runs on this device")
    show.add_argument("--json", action="store_true", help="one JSON document")
    show.set_defaults(
        command=lambda arguments, settings: part("status", settings).show(settings, as_json=arguments.json)
    )

    check = commands.add_parser("doctor", help="check what the agent needs, and say what to do")
    check.add_argument("--json", action="store_true", help="one JSON document")
    check.set_defaults(
        command=lambda arguments, settings: part("doctor", settings).examine(settings, as_json=arguments.json)
    )

    end = commands.add_parser("halt", help="stop every module of this device; the agent must not be running")
    end.add_argument("--json", action="store_true", help="one JSON document")
    end.set_defaults(command=lambda arguments, settings: part("halt", settings).halt(settings, as_json=arguments.json))

    listing = commands.add_parser("settings", help="print the settings in force as JSON")
    listing.set_defaults(command=_settings)

    images = commands.add_parser("images", help="container images on this device").add_subparsers(required=True)
    side = images.add_parser("import", help="bring an image in from a file instead of over the network")
    side.add_argument("file", type=Path, help="what docker save, podman save or edgefleet images save wrote")
    side.add_argument("--json", action="store_true", help="one JSON document")
    side.set_defaults(command=_import)
    return made


def _enroll(arguments: argparse.Namespace, settings: Settings) -> int:
    try:
        bundle = _typed() if str(arguments.bundle) == "-" else arguments.bundle.read_bytes()
    except OSError as error:
        print(f"edgefleet-agent: {arguments.bundle}: {error.strerror}", file=sys.stderr)
        return 1
    name = device_id(arguments.name) if arguments.name else None
    wait = not arguments.no_wait
    joins = part("enroll", settings, make=True).enroll
    identity = joins(bundle, settings.identity, name=name, wait=wait, tell=_waits)
    if identity is None:
        print("it waits; run the same command again later")
        return WAITS
    print(f"enrolled as {identity.device} at {identity.fleet}")
    return 0


def _typed() -> bytes:
    """A bundle, or one line where that is a code: a hand scanner types it and ends it with Enter."""
    if sys.stdin.isatty():
        print("Scan or paste what the QR code says, and press Enter.", flush=True)
    first = sys.stdin.buffer.readline(LIMIT + 1)
    return first if is_code(first) else first + sys.stdin.buffer.read(LIMIT)


def _waits(pending: EnrollPending) -> None:
    """What is read to whoever approves, at once: it may be read through a pipe."""
    words = spoken(pending.fingerprint)
    half = len(words) // 2
    print(
        f"This device asks to join as {pending.device} and waits for an operator's word.\n"
        f"The fingerprint of its key:\n\n  {words[:half].strip()}\n  {words[half:].strip()}\n\n"
        "Read it to the operator, who compares it with: edgefleet devices pending\n"
        f"and then says: edgefleet devices approve {pending.device} --fingerprint ...",
        flush=True,
    )


def _import(arguments: argparse.Namespace, settings: Settings) -> int:
    # Opened before the program goes on as another user, who may not read what root has brought.
    try:
        archive = arguments.file.open("rb")
    except OSError as error:
        raise BadSettings(
            str(error.strerror), element=str(arguments.file), remedy="name a file that can be read"
        ) from error
    with archive:
        return int(part("side_load", settings, make=True).import_image(archive, settings, as_json=arguments.json))


def _settings(_: argparse.Namespace, settings: Settings) -> int:
    print(msgspec.json.format(msgspec.json.encode(settings)).decode())
    return 0
