"""``python -m agent.simulate enroll | run``: what ``edgefleet simulate`` calls, one after the other."""

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.simulate import identities, plan
from agent.simulate.crowd import Crowd, make_room, say
from agent.simulate.session import Door
from agent.simulate.tally import Tally
from agent.simulate.trusting import SharedTrust
from agent.simulate.world import World
from modules.errors import BadSettings, EdgefleetError
from modules.program import run
from modules.protocol.topics import Topics

_LINE_S = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 for an error that is explained."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except EdgefleetError as error:
        sys.stderr.write(f"edgefleet simulate: {error}\n")
        if arguments.json:
            told = {"code": error.code, "message": error.message, "element": error.element, "remedy": error.remedy}
            print(json.dumps({"error": told}))
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent.simulate", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command in (("enroll", _enroll), ("run", _run)):
        one = commands.add_parser(name)
        one.set_defaults(command=command)
        one.add_argument("state", type=Path, help="folder with join.json, and the devices' keys")
        one.add_argument("--devices", type=int, required=True)
        one.add_argument("--prefix", default="sim")
        one.add_argument("--profiles", type=Path, help="JSON")
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--json", action="store_true")
        if name == "run":
            one.add_argument("--no-pull", action="store_true", help="fetch manifests, and no files")
            one.add_argument("--plain", help="HOST:PORT of a listener without TLS")
            one.add_argument("--pace", type=float, default=0.2, help="seconds that a phase takes, on average")
            one.add_argument("--probation", type=float, default=5.0, help="at most so many seconds of probation")
            one.add_argument("--window", type=float, default=60.0, help="at most so many seconds until measurements")
            one.add_argument("--load-every", type=float, default=0.0, help="seconds between telemetry; 0: none")
            one.add_argument("--load-bytes", type=int, default=200, help="of a message, before its envelope")
            one.add_argument("--for", dest="seconds", type=float, help="end after so many seconds")
            one.add_argument("--ready-file", type=Path, help="written when every device is connected")
            one.add_argument("--record", type=Path, help="a line of JSON for each order and phase")
    return parser


def _plan(arguments: argparse.Namespace) -> tuple[list[Any], list[plan.Part]]:
    try:
        read = plan.read(arguments.profiles.read_bytes()) if arguments.profiles else plan.Plan()
    except OSError as error:
        raise BadSettings(str(error.strerror), element=str(arguments.profiles)) from error
    names = identities.names(arguments.devices, arguments.prefix)
    return names, plan.cast(read, len(names), arguments.seed)


def _enroll(arguments: argparse.Namespace) -> int:
    """Enrol those that are not, and say what each device is to be labelled with, which takes another's rights."""
    names, parts = _plan(arguments)
    began = time.monotonic()
    told = 0.0

    def progress(done: int) -> None:
        nonlocal told
        if time.monotonic() - told > _LINE_S:
            told = time.monotonic()
            say(f"enrolled {done}, {done / (time.monotonic() - began):.0f}/s")

    new = identities.enroll(arguments.state, names, progress=progress)
    seconds = time.monotonic() - began
    say(f"enrolled {new} devices in {seconds:.1f} s\n")
    if arguments.json:
        labels = {name: part.kit.labels for name, part in zip(names, parts, strict=True)}
        print(json.dumps({"enrolled": new, "seconds": round(seconds, 2), "labels": labels}))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    make_room(arguments.devices)
    with contextlib.ExitStack() as files:
        record = files.enter_context(arguments.record.open("w", buffering=1)) if arguments.record else None
        tally = Tally(arguments.devices, record)
        asyncio.run(_simulate(arguments, tally))
    if arguments.json:
        print(json.dumps(tally.summary()))
    return 0


async def _simulate(arguments: argparse.Namespace, tally: Tally) -> None:
    names, parts = _plan(arguments)
    join = identities.bundle(arguments.state)
    door = _door(arguments.plain) if arguments.plain else Door.of(join)
    trust = SharedTrust(arguments.state / "trust", join.root)
    world = World(
        topics=Topics(join.broker.prefix),
        door=door,
        trust=trust,
        tally=tally,
        names=names,
        pace_s=arguments.pace,
        most_probation_s=arguments.probation,
        most_window_s=arguments.window,
        pulls=not arguments.no_pull,
    )
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    crowd = Crowd(world, parts, state=arguments.state)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(crowd.tend()), group.create_task(_show(tally))]
        tasks.append(group.create_task(_live(arguments, crowd, tally)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(arguments.seconds):
                await ended.wait()
        for task in tasks:
            task.cancel()
    await crowd.close()
    say(f"{tally.line()}\n")
    door.close()
    trust.close()


async def _live(arguments: argparse.Namespace, crowd: Crowd, tally: Tally) -> None:
    await crowd.connect()
    tally.settled()
    if arguments.ready_file:
        arguments.ready_file.write_text(json.dumps(tally.summary()))
    if arguments.load_every:
        await crowd.measure(arguments.load_every, arguments.load_bytes)


async def _show(tally: Tally) -> None:
    while True:
        await asyncio.sleep(_LINE_S)
        say(tally.line())


def _door(plain: str) -> Door:
    host, _, port = plain.rpartition(":")
    if not host or not port.isdigit():
        raise BadSettings(f"{plain!r} is not HOST:PORT", element="--plain")
    return Door(host, int(port), tls=None)


if __name__ == "__main__":
    run("edgefleet simulate", main)
