"""``edgefleet devices``: let devices join, and see what they are and run."""

import time
from enum import StrEnum
from typing import Annotated, Final

import typer

from fleet.client import arguments, config
from fleet.client.answers import Device
from fleet.client.api import Fleet
from fleet.client.commands import device_commands, device_past, device_views, joining
from fleet.client.rollout_view import health, running
from fleet.client.screen import Json, Screen, when
from modules.names import device_id, slot_name
from modules.protocol.report import SlotReport
from modules.words import printable

app = typer.Typer(no_args_is_help=True, help="Let devices join; list, show, label, empty, command and remove them.")
app.add_typer(joining.app)
app.add_typer(joining.joins, name="joins")
app.command("command")(device_commands.command)
app.command("logs")(device_commands.logs)
app.command("diagnose")(device_commands.diagnose)
app.command("decommission")(device_commands.decommission)
app.command("certificates")(device_past.certificates)
app.command("history")(device_past.history)
app.command("sites")(device_views.sites)
app.command("health")(device_views.health)
app.add_typer(device_views.selectors, name="selectors")
_ASK_AGAIN_S: Final = 1.0


class State(StrEnum):
    """The words of the server."""

    ONLINE = "online"
    UPDATING = "updating"
    DEGRADED = "degraded"
    OFFLINE = "offline"
    REVOKED = "revoked"


class Sort(StrEnum):
    """The orders of the server."""

    ID = "id"
    ID_DOWN = "-id"
    LAST_SEEN = "last_seen"
    LAST_SEEN_DOWN = "-last_seen"


@app.command("list")
def list_devices(
    *,
    selector: Annotated[str, typer.Option(help="Those that it means.")] = "*",
    search: Annotated[str, typer.Option(help="Those with this in their id or labels.")] = "",
    state: Annotated[list[State] | None, typer.Option(help="Those in this state; may be given several times.")] = None,
    sort: Annotated[Sort, typer.Option(help="By what; - in front: the other way round.")] = Sort.ID,
    limit: Annotated[int | None, typer.Option(min=1, max=500, help="So many, the first of them.")] = None,
    as_json: Json = False,
) -> None:
    """List devices: all, or those that the filters mean together."""
    asked = {"selector": selector, "search": search, "state": [one.value for one in state or ()], "sort": sort.value}
    with Fleet(config.load()) as fleet:
        devices = fleet.devices(**asked, **({} if limit is None else {"limit": limit}))
    Screen(as_json=as_json).show(
        devices,
        lambda it: it.table(
            ("DEVICE", "STATE", "LAST SEEN", "LABELS", "RUNS"),
            ((one.id, one.state, when(one.last_seen), _labels(one.labels), _runs(one)) for one in devices),
            empty="No such devices; to let one join: edgefleet devices join",
        ),
    )


@app.command()
def show(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is online and has said what it is.")] = False,
    as_json: Json = False,
) -> None:
    """Show one device: what it is, what it should run, and what it says it runs."""
    with Fleet(config.load()) as fleet:
        found = fleet.device(device_id(device))
        while wait and not found.removed and not (found.online and found.facts):
            time.sleep(_ASK_AGAIN_S)  # HTTP has nothing to await; the server is asked once a second
            found = fleet.device(device_id(device))
    Screen(as_json=as_json).show(found, lambda it: _show(it, found))


@app.command()
def label(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    labels: Annotated[list[str], typer.Argument(help="key=value to set, key= to take away.")],
    *,
    as_json: Json = False,
) -> None:
    """Set or take away labels, by which rollouts select devices."""
    changes = arguments.pairs(labels, option="label")
    with Fleet(config.load()) as fleet:
        present = fleet.device(device_id(device)).labels
        wanted = {key: value for key, value in (present | changes).items() if value}
        found = fleet.label_device(device, wanted)
    Screen(as_json=as_json).show(found, lambda it: it.say(f"{found.id}: {_labels(found.labels) or 'no labels'}"))


@app.command()
def empty(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    slot: Annotated[str, typer.Argument(help="The slot whose module is to stop and go.")],
    *,
    as_json: Json = False,
) -> None:
    """Order a device to stop what runs in a slot, and to forget it."""
    with Fleet(config.load()) as fleet:
        done = fleet.empty_slot(device_id(device), slot_name(slot))
    waits = done.get("waits_for")
    said = f"{slot} of {device} waits for {waits}" if waits else f"{device} is ordered to empty {slot}"
    document = {"device": device, "slot": slot} | ({"waits_for": waits} if waits else {})
    Screen(as_json=as_json).show(document, lambda it: it.say(said))


@app.command()
def remove(device: Annotated[str, typer.Argument(help="The device's id.")], *, as_json: Json = False) -> None:
    """Take a device out of the fleet: it gets no more orders, and its certificate connects no more."""
    with Fleet(config.load()) as fleet:
        done = fleet.remove_device(device_id(device))
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{device} is removed; {done['broker']}"))


@app.command()
def revoke(device: Annotated[str, typer.Argument(help="The device's id.")], *, as_json: Json = False) -> None:
    """Take back a device's certificates, because its key is in wrong hands; it comes back by: devices readmit."""
    with Fleet(config.load()) as fleet:
        done = fleet.revoke_device(device_id(device))
    text = f"{device} comes back with a new key alone: edgefleet devices readmit {device}; {done['broker']}"
    Screen(as_json=as_json).show(done, lambda it: it.say(text))


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _certificate(device: Device) -> str | None:
    if device.revoked is not None:
        return f"revoked {when(device.revoked)}: it comes back by edgefleet devices readmit"
    one = device.certificate
    return None if one is None else f"{one.serial}, ends {when(one.ends)}, renewal due {when(one.renewal_due)}"


def _runs(device: Device) -> str:
    slots = device.report.slots if device.report else ()
    return ", ".join(f"{one.slot}: {one.module} ({_state(one)})" for one in slots)


def _state(slot: SlotReport) -> str:
    """The phase, and how the committed module is where it is not simply up."""
    known = "" if slot.current is None or slot.current.state in {"up", slot.phase} else f", {slot.current.state}"
    return slot.phase + known + ("" if slot.serving else ", nobody serves")


def _show(screen: Screen, device: Device) -> None:
    host = device.facts.host if device.facts else None
    screen.fields(
        [
            ("device", device.id),
            ("removed", device.removed and f"{when(device.removed)} by {device.removed_by or 'an operator'}"),
            ("online", "yes" if device.online else "no"),
            ("last seen", when(device.last_seen)),
            ("labels", _labels(device.labels)),
            ("certificate", _certificate(device)),
            ("platform", host and host.platform),
            ("cpu", host and f"{host.cpu_model}, {host.cores:g} cores"),
            ("memory", host and f"{host.memory_mb} MiB"),
            ("disk", host and f"{host.disk_free_mb} MiB free"),
            ("engines", host and ", ".join(f"{one.name} {one.version}".strip() for one in host.engines)),
            ("accelerators", host and ", ".join(one.name for one in host.accelerators)),
        ]
    )
    slots = device.report.slots if device.report else ()
    screen.table(
        ("SLOT", "MODULE", "PHASE", "SERVING", "HEALTH", "REASON"),
        (
            (
                one.slot,
                one.module,
                one.phase,
                running(one.serving) or "nobody",
                health(one.current),
                one.reason.message if one.reason else "",
            )
            for one in slots
        ),
        empty="It has reported no modules.",
    )
    for refusal in device.report.refusals if device.report else ():
        said = f"{when(refusal.at)}  refused {refusal.what}: {refusal.reason.message}"
        screen.remark(printable(said))  # a device's words, which may break no line
