"""``edgefleet devices command|logs|diagnose|decommission``: tell devices to do something, and see them do it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from fleet.client import arguments, config
from fleet.client.answers import Command, Given, Misfit
from fleet.client.api import Fleet
from fleet.client.command_view import (
    Lines,
    failed,
    follow,
    say_who_waits,
    show_command,
    show_commands,
    still_there,
    watch,
)
from fleet.client.new_file import check_new, write_new
from fleet.client.screen import Json, Screen, size
from modules.errors import BadSettings, Invalid, Refused
from modules.names import DeviceId, device_id, slot_name
from modules.program import INTERRUPTED

_ENDINGS: Final = {
    "application/zip": "zip",
    "application/gzip": "tar.gz",
    "application/x-tar": "tar",
    "application/json": "json",
    "text/plain": "txt",
}
_Device = Annotated[str, typer.Argument(help="The device's id.")]
_Expires = Annotated[str, typer.Option(help="Until when a device may begin it: 30s, 15m, 24h, 7d.")]


class _Taken(msgspec.Struct, frozen=True):
    """Who would get a command, who of them is offline, and who would get none."""

    devices: tuple[str, ...]
    offline: tuple[str, ...]
    misfits: tuple[Misfit, ...]


def command(
    words: Annotated[
        list[str], typer.Argument(metavar="[DEVICE] NAME", help="The device's id, unless --selector; what to do.")
    ],
    *,
    selector: Annotated[
        str | None, typer.Option(help="Which devices by label: site=berlin,line=2; or * for all.")
    ] = None,
    slot: Annotated[str | None, typer.Option(help="The slot, where the command needs one.")] = None,
    given: Annotated[list[str] | None, typer.Option("--set", help="argument=number; may be repeated.")] = None,
    expires: _Expires = "1h",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch until every device has answered.")] = True,
    preview: Annotated[bool, typer.Option("--preview", help="Show who would get it, and give nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Tell one device or many to do something, and watch; exit code 1 unless all have done it."""
    device, name = _device_and_name(words, selector)
    request = {
        "name": name,
        **({"selector": selector} if device is None else {"device": device}),
        "slot": None if slot is None else slot_name(slot),
        "arguments": _numbers(given or ()),
        "expires_s": _whole(expires),
    }
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet:
        if preview:
            would = fleet.ask(_Taken, "POST", "/api/v1/commands/preview", json=request)
            screen.show(would, lambda it: _show_who(it, would))
            return
        told = fleet.give_command(request)
        with _left(screen, told):
            found = watch(fleet, told, screen) if wait else fleet.commands(batch=told.batch)
    if not wait:
        say_who_waits(screen, found)
    screen.show({"batch": told.batch, "commands": found, "misfits": told.misfits}, lambda it: _show(it, told, found))
    if told.misfits or (wait and failed(found)):
        raise typer.Exit(1)


def logs(
    device: _Device,
    slot: Annotated[str, typer.Argument(help="The slot whose module's log it is.")],
    *,
    lines: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest lines.")] = 100,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines as they come.")] = False,
    longest: Annotated[str, typer.Option("--for", help="How long to follow, an hour at most.")] = "10m",
    expires: _Expires = "5m",
    as_json: Json = False,
) -> None:
    """Print what a module wrote to its log, and with --follow what it writes from now on."""
    follow_s = arguments.seconds(longest, option="--for") if following else 0
    screen = Screen(as_json=as_json)
    kept: list[str] = []
    lines_out = Lines(kept.append if as_json else screen.line)
    request = {
        "name": "logs",
        "device": device_id(device),
        "slot": slot_name(slot),
        "arguments": {"lines": lines, "follow_s": follow_s},
        "expires_s": _whole(expires),
    }
    with Fleet(config.load()) as fleet:
        found = _carried_out(fleet, request, screen, lines_out, cancels=following)
    lines_out.end()
    if not as_json:
        _succeeded(found)
        return
    screen.show({"command": found, "lines": kept}, lambda _: None)
    if failed([found]):
        raise typer.Exit(1)


def diagnose(
    device: _Device,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write, which must be new; else one is named here.")
    ] = None,
    expires: _Expires = "15m",
    as_json: Json = False,
) -> None:
    """Fetch a bundle that says how a device is, for whoever helps; it has no secrets, and only you may read it."""
    name = device_id(device)
    screen = Screen(as_json=as_json)
    if out is not None:
        check_new(out)
    request = {"name": "diagnose", "device": name, "expires_s": _whole(expires)}
    with Fleet(config.load()) as fleet:
        told = fleet.give_command(request)
        with _left(screen, told):
            (found,) = watch(fleet, told, screen)
        _succeeded(found)
        result = fleet.command_result(found.id)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(found.issued))
    file = out or Path(f"{name}-diagnose-{stamp}.{_ENDINGS.get(result.content, 'bin')}")
    write_new(file, result.data)
    document = {"file": str(file), "bytes": len(result.data), "content": result.content, "command": found.id}
    screen.show(document, lambda it: it.say(f"Wrote {file}, {size(len(result.data))}."))


def decommission(
    device: _Device,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the device's name once more.")] = False,
    expires: _Expires = "10m",
    as_json: Json = False,
) -> None:
    """Wipe a device of everything of edgefleet's, its identity last, and take it out of the fleet."""
    name = device_id(device)
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet:
        fleet.device(name)
        if not yes:
            _ask(screen, name)
        told = fleet.give_command({"name": "decommission", "device": name, "expires_s": _whole(expires)})
        with _left(screen, told):
            (found,) = watch(fleet, told, screen)
        if found.state != "done":
            said = f"; it says: {found.reason.message}" if found.reason else ""
            raise Refused(
                f"the device has not wiped itself, and is still in the fleet: the command is {found.state}{said}",
                element=name,
                remedy="try again while it is online; or take it out without its help: edgefleet devices remove "
                f"{name}. That ends its certificate and its orders, and leaves on its disk what is there: its modules, "
                "which go on serving, and its keys",
            )
        removed = fleet.remove_device(name)
    screen.show(removed | {"command": found.id}, lambda it: it.say(f"{name} is wiped and removed; {removed['broker']}"))


def _device_and_name(words: Sequence[str], selector: str | None) -> tuple[DeviceId | None, str]:
    if selector is not None and len(words) == 1:
        return None, words[0]
    if selector is None and len(words) == 2:  # noqa: PLR2004 - device and name
        return device_id(words[0]), words[1]
    raise typer.BadParameter("say either DEVICE NAME, or --selector LABELS NAME; all devices are --selector '*'")


def _numbers(words: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, text in arguments.pairs(words, option="--set").items():
        try:
            found[name] = float(text)
        except ValueError as error:
            raise Invalid(f"{text!r} is not a number", element=f"--set {name}", remedy="write one") from error
    return found


def _whole(expires: str) -> int:
    return int(arguments.seconds(expires, option="--expires"))


def _show(screen: Screen, told: Given, found: Sequence[Command]) -> None:
    if len(found) == 1:
        show_command(screen, found[0])
    else:
        show_commands(screen, found)
    if told.misfits:
        rows = ((one.device, "; ".join(one.reasons)) for one in told.misfits)
        screen.table(("GOT NO COMMAND", "WHY"), rows, empty="")


def _show_who(screen: Screen, would: _Taken) -> None:
    away = set(would.offline)
    rows = [(one, "when it is back in time" if one in away else "now") for one in would.devices]
    rows += [(one.device, f"not: {'; '.join(one.reasons)}") for one in would.misfits]
    screen.table(("DEVICE", "GETS IT"), rows, empty="The selector means no device.")


def _carried_out(fleet: Fleet, request: dict[str, Any], screen: Screen, lines: Lines, *, cancels: bool) -> Command:
    """Give one command and print what it brings; whoever stops following does not want the rest."""
    told = fleet.give_command(request)
    ident = told.commands[0].id
    say_who_waits(screen, [fleet.command(ident)])
    try:
        return follow(fleet, ident, lines.add)
    except KeyboardInterrupt:
        lines.end()
        if cancels:
            fleet.cancel_command(ident)
        else:
            still_there(screen, told)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _left(screen: Screen, told: Given) -> Iterator[None]:
    """Whoever stops watching leaves the commands standing, and is told how to look at them again."""
    try:
        yield
    except KeyboardInterrupt:
        still_there(screen, told)
        raise typer.Exit(INTERRUPTED) from None


def _succeeded(found: Command) -> None:
    """An error with the reason, unless the device has done it.

    Raises:
        Refused: it has not.
    """
    if found.state != "done":
        why = f": {found.reason.message} [{found.reason.code}]" if found.reason else ""
        remedy = "see that the device is online, and give it once more" if found.state == "expired" else ""
        raise Refused(f"{found.name} is {found.state}{why}", element=found.device, remedy=remedy)


def _ask(screen: Screen, device: DeviceId) -> None:
    screen.remark(
        f"{device} will stop and forget all modules, and lose its identity: it serves nothing any more and has to be "
        "enrolled anew to come back."
    )
    if typer.prompt(f"Type {device} to go on", default="", show_default=False, err=True) != device:
        raise BadSettings("that is not the device's name: nothing was done", element=device, remedy="or say --yes")
