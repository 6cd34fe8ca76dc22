"""``edgefleet try``: a module is asked where it serves, on a device or at an endpoint."""
# ruff: noqa: N999 - a file is named as its noun, though Python has this word for itself

import mimetypes
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer
from httpx import codes

from fleet import best_classes
from fleet.best_classes import Ranked
from fleet.client import arguments, config
from fleet.client.answers import Endpoint
from fleet.client.api import Fleet
from fleet.client.new_file import check_new, write_new
from fleet.client.screen import Json, Screen, size
from modules.errors import EdgefleetError, Invalid, Refused
from modules.names import DeviceId, ModuleRef, device_id, slot_name
from modules.protocol.commands import TRIAL_BODY, Tried
from modules.words import printable

app = typer.Typer()
_JSON: Final = "application/json"
# What of an answer goes to the terminal; all of it with --out.
_SHOWN: Final = 20_000


class _Outcome(msgspec.Struct, frozen=True):
    """What the server says of a try."""

    command: str | None
    state: str
    reason: dict[str, str] | None
    answer: Tried | None


class _Names(msgspec.Struct, frozen=True):
    """What a module brings: the names of what it tells apart."""

    names: tuple[str, ...] = ()


@app.command("try")
def try_out(
    module: Annotated[str, typer.Argument(help="team/name:version.")],
    *,
    device: Annotated[str | None, typer.Option(help="On this device.")] = None,
    slot: Annotated[str | None, typer.Option(help="In this slot (the one where the module is).")] = None,
    endpoint: Annotated[str | None, typer.Option(help="At this endpoint.")] = None,
    given: Annotated[
        Path | None, typer.Option("--input", "-i", help="The file to send: JSON, an image, any bytes.", exists=True)
    ] = None,
    data: Annotated[str | None, typer.Option(help="The JSON to send, instead of a file.")] = None,
    content_type: Annotated[str, typer.Option(help="Its media type (as the file's name says).")] = "",
    accept: Annotated[str, typer.Option(help="The media type that is wanted back.")] = "",
    within: Annotated[int, typer.Option(min=1, max=50, help="Seconds that the answer may take.")] = 20,
    openapi: Annotated[bool, typer.Option("--openapi", help="Ask what it takes, as OpenAPI; send nothing.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A new file for the answer's bytes.")] = None,
    as_json: Json = False,
) -> None:
    """Send something to a module on a device or at an endpoint, and show the answer and who gave it."""
    ref = arguments.module_ref(module)
    if (device is None) == (endpoint is None):
        raise typer.BadParameter("say either --device or --endpoint")
    if (given is not None) + (data is not None) + openapi != 1:
        raise typer.BadParameter("say one of --input, --data and --openapi")
    if out is not None:
        check_new(out)
    body = given.read_bytes() if given else (data or "").encode()
    guessed = mimetypes.guess_type(given.name)[0] if given else _JSON
    asked: dict[str, Any] = {"within_s": within, "accept": accept}
    asked |= {"path": "swagger.json"} if openapi else {}
    headers = {"Content-Type": content_type or guessed or "application/octet-stream"}
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet:
        if device is not None:
            name = device_id(device)
            _check_small(body, ref)
            place = slot_name(slot) if slot else _slot_of(fleet, name, ref)
            path = f"devices/{name}/slots/{place}/try"
        else:
            path = f"endpoints/{slot_name(str(endpoint))}/try"
            asked |= {"version": _version_of(fleet.endpoint(str(endpoint)), ref, str(endpoint))}
        found = fleet.ask(_Outcome, "POST", f"/api/v1/{path}", content=body, headers=headers, params=asked)
        answer = _answer(found, device or str(endpoint))
        if out is not None:
            write_new(out, answer.body)
        best = _best(fleet, answer, ref, screen)
    shown = msgspec.to_builtins(found) | {"best": [one._asdict() | {"best": _plain(one)} for one in best]}
    screen.show(shown, lambda it: _show(it, answer, ref, out, best))
    if answer.status >= codes.BAD_REQUEST:
        raise typer.Exit(1)


def _check_small(body: bytes, ref: ModuleRef) -> None:
    """Said before anything is sent: a device gets it through the broker, in one message.

    Raises:
        Invalid: it is too large.
    """
    if len(body) > TRIAL_BODY:
        raise Invalid(
            f"{size(len(body))} is more than the {size(TRIAL_BODY)} that can be sent to a device for a try",
            element="--input",
            remedy="send the picture and not its numbers, if the module takes pictures; or ask it at an endpoint"
            f" (--endpoint), on the device, or here: edgefleet serve-local {ref}",
        )


def _slot_of(fleet: Fleet, device: DeviceId, ref: ModuleRef) -> str:
    """Where a device says that the module serves."""
    report = fleet.device(device).report
    there = [one.slot for one in (report.slots if report else ()) if one.serving and one.serving.module == str(ref)]
    if not there:
        raise Refused("this device does not say that it serves this module", element=f"{device} {ref}", remedy=_SEE)
    if len(there) > 1:
        raise Invalid(f"it serves it in {', '.join(there)}", element=device, remedy="say which: --slot SLOT")
    return there[0]


def _version_of(endpoint: Endpoint | None, ref: ModuleRef, name: str) -> str:
    """Under which name an endpoint has the module."""
    if endpoint is None:
        raise Refused("there is no such endpoint", element=quote(name), remedy="see: edgefleet endpoints list")
    for version, one in endpoint.versions.items():
        if one.module == str(ref):
            return version
    serves = ", ".join(sorted(one.module for one in endpoint.versions.values()))
    raise Refused(f"it serves {serves}", element=f"endpoint {name}", remedy="name one of these")


def _answer(found: _Outcome, where: str) -> Tried:
    if found.answer is None:
        why = found.reason["message"] if found.reason else "the device did not answer in time"
        raise Refused(f"{why} [{found.state}]", element=where, remedy=_SEE)
    return found.answer


def _best(fleet: Fleet, answer: Tried, ref: ModuleRef, screen: Screen) -> list[Ranked]:
    """The largest of what it says of each class, by the names that the module brings."""
    rows = best_classes.rows_of(answer.content_type, answer.body) if answer.status == codes.OK else []
    names: tuple[str, ...] = ()
    # Another module's classes have other names.
    if rows and answer.module in ("", str(ref)):
        path = f"/api/v1/modules/{str(ref).replace(':', '/')}/classes"
        try:
            names = fleet.ask(_Names, "GET", path).names
        except EdgefleetError as error:
            screen.remark(f"Classes are shown by number: {error.message}")
    return [best_classes.ranked(name, row, names) for name, row in rows]


def _plain(one: Ranked) -> list[dict[str, Any]]:
    return [{"name": best.name, "value": best.value} for best in one.best]


def _show(screen: Screen, answer: Tried, ref: ModuleRef, out: Path | None, best: list[Ranked]) -> None:
    screen.fields(
        [
            ("answered", f"{answer.status} in {answer.ms:.1f} ms"),
            ("by", ", ".join(filter(None, (answer.module, answer.version, answer.served_by)))),
            ("provider", answer.provider or None),
            ("request", answer.request_id or None),
            ("type", f"{answer.content_type or 'none'}, {len(answer.body)} bytes"),
        ]
    )
    if answer.module and answer.module != str(ref):
        screen.remark(f"Another module answered: {answer.module}, and not {ref}.")
    if out is not None:
        screen.say(f"Wrote {out}.")
    else:
        _show_body(screen, answer)
    if best:
        largest = [(one.output, it.name, f"{it.value:g}", f"of {one.of}") for one in best for it in one.best]
        screen.table(("OUTPUT", "CLASS", "VALUE", "THE LARGEST"), largest, empty="")


def _show_body(screen: Screen, answer: Tried) -> None:
    try:
        lines = answer.body[:_SHOWN].decode().splitlines()
    except UnicodeDecodeError:
        screen.remark("The answer is no text: --out FILE writes it.")
        return
    for line in lines:
        screen.say(printable(line))
    if len(answer.body) > _SHOWN:
        screen.remark(f"... of {len(answer.body)} bytes; --out FILE writes all.")


_SEE: Final = "see: edgefleet devices show DEVICE"
