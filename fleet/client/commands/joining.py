"""How devices join: the part of ``edgefleet devices`` about bundles, claims, approval and names that come back."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fleet.client import arguments, config
from fleet.client.answers import Join
from fleet.client.api import Fleet
from fleet.client.screen import Json, Screen, when
from fleet.client.secret_file import secret_file
from modules import canonical
from modules.errors import Invalid
from modules.fingerprint import heard, spoken
from modules.names import device_id
from modules.protocol import join_code
from modules.protocol.enrollment import JoinBundle

app = typer.Typer(no_args_is_help=True)
joins = typer.Typer(no_args_is_help=True, help="List join bundles and claims, and take them back.")

# Picture points, of a PNG, of the code's smallest square.
_SCALE = 6

Out = Annotated[Path, typer.Option(help="Where to write the bundle.")]
Expires = Annotated[str, typer.Option(help="How long it can be used: 30m, 24h, 7d.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label that its devices get; repeatable.")
]
Approve = Annotated[
    bool | None,
    typer.Option("--approve/--no-approve", help="Whether they wait for devices approve; else as the server is set."),
]
Name = Annotated[str, typer.Argument(help="The device's id.")]


@app.command()
def join(
    out: Out = Path("join.json"),
    uses: Annotated[int, typer.Option(min=1, help="How many devices may join with it.")] = 1,
    expires: Expires = "24h",
    labels: Labels = None,
    *,
    qr: Annotated[Path | None, typer.Option(help="Draw its QR code, too: a file that ends in .svg or .png.")] = None,
    approve: Approve = None,
    as_json: Json = False,
) -> None:
    """Write a join bundle, with which a device enrols itself."""
    expires_s = int(arguments.seconds(expires, option="--expires"))
    given = arguments.pairs(labels or [], option="--label")
    with ExitStack() as parts:
        draw = parts.enter_context(_picture(qr)) if qr else None
        fleet, write = parts.enter_context(Fleet(config.load())), parts.enter_context(secret_file(out))
        bundle = fleet.join_bundle(uses=uses, expires_s=expires_s, labels=given, approve=approve)
        write(canonical.encode(bundle))
        if draw:
            draw(bundle)
    document = {"file": str(out), "fleet": bundle.fleet, "uses": uses, "expires_s": expires_s}
    document |= {"qr": str(qr)} if qr else {}
    wait = "\nEach then waits for your word: edgefleet devices pending" if approve else ""
    Screen(as_json=as_json).show(
        document | ({"labels": given} if given else {}) | ({} if approve is None else {"approve": approve}),
        lambda it: it.say(
            f"Wrote {out}, good for {uses} device{'s' if uses > 1 else ''} within {expires}. It holds a secret.\n"
            f"Carry it to the device and run there: edgefleet-agent enroll {out.name}{wait}"
            + (f"\n{qr} is the same: run edgefleet-agent enroll - there, and scan it" if qr else "")
        ),
    )


@contextmanager
def _picture(file: Path) -> Iterator[Callable[[JoinBundle], None]]:
    """A file for a bundle's QR code, as secret as the bundle."""
    kind = file.suffix.lower().removeprefix(".")
    if kind not in {"svg", "png"}:
        raise Invalid("is not the name of a picture", element=str(file), remedy="write --qr FILE.svg or FILE.png")
    with secret_file(file) as write:

        def draw(bundle: JoinBundle) -> None:
            import segno  # noqa: PLC0415 - every other command would wait for it

            drawn = io.BytesIO()
            code = segno.make(join_code.encode(bundle), error="l", boost_error=False, micro=False)
            code.save(drawn, kind=kind, scale=_SCALE, border=4, light="white")
            write(drawn.getvalue())

        yield draw


@app.command()
def claim(
    device: Name,
    out: Out = Path("claim.json"),
    expires: Expires = "24h",
    labels: Labels = None,
    *,
    approve: Approve = None,
    readmit: Annotated[bool, typer.Option("--readmit", help="It comes back with another key.")] = False,
    as_json: Json = False,
) -> None:
    """Write a bundle with which one device joins over MQTT, where it cannot reach the fleet server."""
    expires_s = int(arguments.seconds(expires, option="--expires"))
    given = arguments.pairs(labels or [], option="--label")
    name = device_id(device)
    with Fleet(config.load()) as fleet, secret_file(out) as write:
        bundle = fleet.claim_bundle(name, expires_s=expires_s, labels=given, approve=approve, readmit=readmit)
        write(canonical.encode(bundle))
    Screen(as_json=as_json).show(
        {"file": str(out), "device": name, "expires_s": expires_s},
        lambda it: it.say(
            f"Wrote {out}, good for {name} alone, within {expires}. It holds a secret.\n"
            f"Carry it to the device and run there: edgefleet-agent enroll {out.name}"
        ),
    )


@app.command()
def readmit(
    device: Name,
    out: Out = Path("join.json"),
    expires: Expires = "24h",
    *,
    approve: Approve = None,
    as_json: Json = False,
) -> None:
    """Write a bundle with which other hardware takes a device's name, once; the key of before is then refused."""
    expires_s = int(arguments.seconds(expires, option="--expires"))
    name = device_id(device)
    with Fleet(config.load()) as fleet, secret_file(out) as write:
        write(canonical.encode(fleet.readmit_device(name, expires_s=expires_s, approve=approve)))
    Screen(as_json=as_json).show(
        {"file": str(out), "device": name, "expires_s": expires_s},
        lambda it: it.say(
            f"Wrote {out}: one device may come back as {name} within {expires}. It holds a secret.\n"
            f"Run on the new hardware: edgefleet-agent enroll {out.name}\n"
            f"What has the name now is cut off at that moment, and not before."
        ),
    )


@app.command()
def pending(*, as_json: Json = False) -> None:
    """List devices that wait for approval, with the fingerprints of their keys."""
    with Fleet(config.load()) as fleet:
        found = fleet.pending_devices()

    def human(it: Screen) -> None:
        it.table(
            ("DEVICE", "FROM", "SINCE", "UNTIL", "JOIN", "FINGERPRINT"),
            (
                (one.name, one.address, when(one.since), when(one.expires), one.join, spoken(one.fingerprint))
                for one in found
            ),
            empty="No device waits for approval.",
        )
        if found:
            it.remark("Compare with what the device shows, then: edgefleet devices approve DEVICE --fingerprint F")

    Screen(as_json=as_json).show(found, human)


@app.command()
def approve(
    device: Name,
    fingerprint: Annotated[str, typer.Option(help="What the device itself shows; groups may be written as they are.")],
    *,
    as_json: Json = False,
) -> None:
    """Let a device in that waits, if its key has this fingerprint."""
    mark = heard(fingerprint)
    with Fleet(config.load()) as fleet:
        done = fleet.approve_device(device_id(device), mark)
    told = f"\nThe key of before: {done['broker']}" if "broker" in done else ""
    Screen(as_json=as_json).show(
        done, lambda it: it.say(f"{device} is approved; it comes in when it asks again.{told}")
    )


@app.command()
def reject(
    device: Name,
    reason: Annotated[str, typer.Option(help="Why; who stands at the device reads it.")] = "",
    *,
    as_json: Json = False,
) -> None:
    """Never let the key in that waits under this name."""
    with Fleet(config.load()) as fleet:
        done = fleet.reject_device(device_id(device), reason)
    Screen(as_json=as_json).show(
        done, lambda it: it.say(f"{device} is rejected; this key stays out: {spoken(done['fingerprint'])}")
    )


@joins.command("list")
def list_joins(*, as_json: Json = False) -> None:
    """List the newest join bundles and claims."""
    with Fleet(config.load()) as fleet:
        found = fleet.joins()
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("ID", "KIND", "STATE", "LEFT", "WAITING", "EXPIRES", "LABELS", "DEVICE", "APPROVAL", "MADE BY"),
            (
                (
                    one.id,
                    "readmission" if one.readmit else one.kind,
                    _state(one),
                    _left(one),
                    one.waiting or "",
                    when(one.expires),
                    ", ".join(f"{key}={value}" for key, value in sorted(one.labels.items())),
                    one.name or "",
                    "yes" if one.approve else "no",
                    one.by,
                )
                for one in found
            ),
            empty="Nothing lets devices join: edgefleet devices join",
        ),
    )


@joins.command()
def revoke(
    join: Annotated[str, typer.Argument(metavar="ID", help="Its number in the list.")], *, as_json: Json = False
) -> None:
    """Take a join bundle or a claim back: nobody joins with it any more; who has joined stays."""
    if not join.isdecimal():
        raise Invalid(f"{join[:40]!r} is not a number", element="ID", remedy="see edgefleet devices joins list")
    with Fleet(config.load()) as fleet:
        done = fleet.revoke_join(int(join))
    told = f"; {done['broker']}" if "broker" in done else ""
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{join} lets nobody in any more{told}"))


def _state(one: Join) -> str:
    if one.revoked is not None:
        return "revoked"
    if one.uses_left is not None and one.uses_left < 1:
        return "in use" if one.waiting else "used up"
    return "expired" if one.expires is not None and one.expires <= time.time() else "open"


def _left(one: Join) -> str:
    return "no limit" if one.uses is None else f"{one.uses_left} of {one.uses}"
