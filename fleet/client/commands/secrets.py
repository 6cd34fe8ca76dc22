"""``edgefleet secrets``: tokens and certificates for modules, which nobody can read again."""

import base64
import sys
from pathlib import Path
from typing import Annotated

import typer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.endpoint_secrets import change_secret, show_secrets
from fleet.client.screen import Json, Screen, when
from fleet.client.secret_file import read_secret
from modules.errors import BadSettings
from modules.names import device_id, slot_name

app = typer.Typer(no_args_is_help=True, help="Give modules tokens and certificates that only their devices can open.")
Name = Annotated[str, typer.Argument(help="The secret's name, which is its file's in the module's container.")]
Slot = Annotated[str | None, typer.Option("--slot", help="The slot of devices whose module is to have it.")]
Endpoint = Annotated[str | None, typer.Option(help="The endpoint in the cloud whose modules are to have it.")]
Devices = Annotated[list[str] | None, typer.Option("--device", help="A device; may be given more than once.")]
Selector = Annotated[str | None, typer.Option("--selector", help="All devices that these labels select.")]
_LONGEST = 1 << 20


@app.command("set")
def set_secret(
    name: Name,
    slot: Slot = None,
    devices: Devices = None,
    selector: Selector = None,
    endpoint: Endpoint = None,
    file: Annotated[Path | None, typer.Option(help="Where the value is; without it, standard input has it.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Give a value to the module in a slot of devices, or to those of an endpoint; a new value replaces the old one."""
    if endpoint is not None:
        _of_endpoint(slot, devices, selector)
        change_secret(endpoint, name, _value(file), as_json=as_json)
        return
    where = _where(name, slot, devices, selector)
    value = _value(file)
    with Fleet(config.load()) as fleet:
        done = fleet.set_secret(where | {"value": base64.b64encode(value).decode()})
    without = done["without_key"]
    Screen(as_json=as_json).show(
        done,
        lambda it: it.say(
            f"{name} of slot {slot} is version {done['version']} on {len(done['set'])} devices"
            + (f"; not on {', '.join(without)}: their agents have no key for secrets yet" if without else "")
        ),
    )


@app.command("list")
def list_secrets(*, endpoint: Endpoint = None, as_json: Json = False) -> None:
    """List the secrets that were set, and the devices that lack one; or those of an endpoint. No value is shown."""
    if endpoint is not None:
        show_secrets(endpoint, as_json=as_json)
        return
    with Fleet(config.load()) as fleet:
        found = fleet.secrets()
    rows = [
        (one["slot"], one["name"], device["device"], device["state"], str(device["version"] or ""), when(one["at"]))
        for one in found
        for device in one["devices"]
    ]
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("SLOT", "SECRET", "DEVICE", "STATE", "VERSION", "SET"), rows, empty="No secrets: edgefleet secrets set"
        ),
    )


@app.command()
def remove(
    name: Name,
    slot: Slot = None,
    devices: Devices = None,
    selector: Selector = None,
    endpoint: Endpoint = None,
    *,
    as_json: Json = False,
) -> None:
    """Take a secret away from devices, or from an endpoint."""
    if endpoint is not None:
        _of_endpoint(slot, devices, selector)
        change_secret(endpoint, name, None, as_json=as_json)
        return
    with Fleet(config.load()) as fleet:
        done = fleet.remove_secret(_where(name, slot, devices, selector))
    Screen(as_json=as_json).show(
        done, lambda it: it.say(f"{name} of slot {slot} is removed from {len(done['removed'])} devices")
    )


def _of_endpoint(slot: str | None, devices: list[str] | None, selector: str | None) -> None:
    if slot or devices or selector:
        raise BadSettings("an endpoint, and devices", element="--endpoint", remedy="name one of them")


def _where(name: str, slot: str | None, devices: list[str] | None, selector: str | None) -> dict[str, object]:
    if slot is None:
        raise BadSettings("nothing says where", element="--slot", remedy="name --slot SLOT, or --endpoint NAME")
    if (devices is None or not devices) == (selector is None):
        raise BadSettings(
            "either devices or a selector", element="--device", remedy="name --device ID, or --selector '*' for all"
        )
    where: dict[str, object] = {"name": name, "slot": slot_name(slot)}
    return where | ({"selector": selector} if selector else {"devices": [device_id(one) for one in devices or ()]})


def _value(file: Path | None) -> bytes:
    """The bytes as they are; a line's end belongs to them."""
    return sys.stdin.buffer.read(_LONGEST) if file is None else read_secret(file)
