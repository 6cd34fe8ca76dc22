"""``edgefleet modules``: sign, check, list and rebase modules."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from fleet.client import arguments, config, graphs, module_places
from fleet.client.api import Fleet
from fleet.client.commands.models import Ref, show_module
from fleet.client.local import kept_profiles
from fleet.client.publishing.rebase import rebase as rebase_module
from fleet.client.screen import Json, Screen, size, when
from fleet.client.signing.offline_keys import KEYS, team_signers
from fleet.client.signing.sign import check_own
from fleet.client.signing.sign import sign as sign_module
from fleet.client.signing.trusted import Trusted
from fleet.client.workspace import Workspace
from modules import manifest as manifests
from modules.digests import sha256
from modules.errors import Invalid, Untrusted
from modules.names import ModuleRef, device_id
from modules.trust import team_files

app = typer.Typer(no_args_is_help=True, help="Sign, check, list, rebase and remove modules; raise their floors.")


@app.command()
def sign(
    module: Ref,
    *,
    keys: Annotated[list[str], typer.Option("--keys", "--key", help=KEYS)],
    as_json: Json = False,
) -> None:
    """Hash your own files again, and sign the draft if it is the same."""
    screen, ref = Screen(as_json=as_json), arguments.module_ref(module)
    signers = team_signers(keys, ref.team)
    with Fleet(config.load()) as fleet, screen.progress() as step:
        trusted = Trusted(fleet, config.home())
        signed = sign_module(ref, signers=signers, fleet=fleet, trusted=trusted, workspace=_workspace(), step=step)
    screen.show(signed, lambda it: it.say(f"{signed.ref} is {signed.state}: {signed.digest}"))


@app.command("list")
def list_modules(*, as_json: Json = False) -> None:
    """List all module versions."""
    with Fleet(config.load()) as fleet:
        modules = fleet.modules()
    Screen(as_json=as_json).show(
        modules,
        lambda it: it.table(
            ("MODULE", "STATE", "SIZE", "CREATED", "DIGEST"),
            (
                (
                    one.ref,
                    one.state,
                    "" if one.bytes is None else size(one.bytes),
                    when(one.created),
                    it.digest(one.digest),
                )
                for one in modules
            ),
            empty="No modules yet: edgefleet models register FILE -n NAME --team TEAM",
        ),
    )


@app.command()
def show(module: Ref, *, as_json: Json = False) -> None:
    """Show one module version."""
    with Fleet(config.load()) as fleet:
        found = fleet.module(arguments.module_ref(module))
    Screen(as_json=as_json).show(found, lambda it: show_module(it, found))


@app.command()
def devices(module: Ref, *, as_json: Json = False) -> None:
    """List the devices that a module version is ordered to."""
    with Fleet(config.load()) as fleet:
        found = module_places.ask(fleet, arguments.module_ref(module))
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("DEVICE", "ONLINE", "SLOTS"),
            ((one.device, "yes" if one.online else "no", ", ".join(one.slots)) for one in found),
            empty="It is ordered to no device: edgefleet rollouts start MODULE --slot SLOT",
        ),
    )


@app.command()
def fits(
    module: Ref,
    device: Annotated[str, typer.Argument(help="The device's id.")],
    *,
    slot: Annotated[str, typer.Option(help="A slot, whose secrets count, too.")] = "",
    as_json: Json = False,
) -> None:
    """Say whether a module fits a device, as a rollout would decide it, or every reason why not."""
    asked = {"module": str(arguments.module_ref(module))} | ({"slot": slot} if slot else {})
    with Fleet(config.load()) as fleet:
        found = fleet.answer("GET", f"devices/{device_id(device)}/fits?{urlencode(asked)}")
    Screen(as_json=as_json).show(
        found,
        lambda it: it.table(
            ("ENGINE", "FITS", "HARDWARE OR WHY NOT"),
            (
                (one["engine"], "yes" if one["fits"] else "no", one["hardware"] or "; ".join(one["reasons"]))
                for one in found["engines"]
            ),
            empty="",
        ),
    )
    if not found["fits"]:
        raise typer.Exit(1)


@app.command()
def graph(
    module: Ref,
    *,
    path: Annotated[str, typer.Option(help="Another graph of the module than its main one.")] = "",
    as_json: Json = False,
) -> None:
    """Show what a module's graph takes and gives, and of which operators it is made."""
    ref = arguments.module_ref(module)
    with Fleet(config.load()) as fleet:
        found = fleet.ask(dict[str, Any], "GET", graphs.place(ref), params={"path": path})
    shown = graphs.expect_one(found, ref)
    Screen(as_json=as_json).show(found, lambda it: graphs.show(it, shown))


@app.command("profiles")
def list_profiles(module: Ref, *, as_json: Json = False) -> None:
    """Show what publishers measured of a module, by kind of hardware."""
    ref = arguments.module_ref(module)
    with Fleet(config.load()) as fleet:
        found = kept_profiles.ask(fleet, ref)
    Screen(as_json=as_json).show(found, lambda it: kept_profiles.show(it, found, ref))


@app.command()
def floor(
    module: Annotated[str, typer.Argument(help="team/name.")],
    version: Annotated[str, typer.Argument(help="The lowest version that may still run.")],
    *,
    keys: Annotated[list[str], typer.Option("--keys", "--key", help=KEYS)],
    as_json: Json = False,
) -> None:
    """Raise a module's floor: devices accept no order for an older version any more, whoever signs it."""
    screen, ref = Screen(as_json=as_json), arguments.module_ref(f"{module}:{version}")
    signers = team_signers(keys, ref.team)
    with Fleet(config.load()) as fleet:
        files = Trusted(fleet, config.home()).all_team_files(ref.team)
        signed = team_files.set_floor(
            files, team=ref.team, name=ref.name, minimum=ref.version, signers=signers, now=datetime.now(UTC)
        )
        if signed:
            fleet.put_team_files(ref.team, signed)
    document = {"module": f"{ref.team}/{ref.name}", "floor": str(ref.version), "raised": bool(signed)}
    screen.show(
        document,
        lambda it: it.say(
            f"No version of {ref.team}/{ref.name} below {ref.version} is accepted any more; what runs is not stopped."
        ),
    )


@app.command()
def remove(module: Ref, *, as_json: Json = False) -> None:
    """Take a module version out of the server and out of this workspace, unless something uses it."""
    ref = ModuleRef.parse(module)
    with Fleet(config.load()) as fleet:
        fleet.remove_module(ref)
    _workspace().forget_module(ref)
    document = {"ref": str(ref), "state": "removed"}
    Screen(as_json=as_json).show(document, lambda it: it.say(f"{ref} is removed"))


@app.command()
def verify(
    module: Annotated[str, typer.Argument(help="team/name:version, or a manifest's file.")], *, as_json: Json = False
) -> None:
    """Check a module: the team's signature on the server's bytes, and your own files if they are here."""
    screen = Screen(as_json=as_json)
    if Path(module).is_file():
        found = _verify_file(Path(module))
    else:
        with Fleet(config.load()) as fleet, screen.progress() as step:
            found = _verify_ref(arguments.module_ref(module), fleet, step)
    screen.show(found, lambda it: it.fields(found.items()))


@app.command()
def rebase(
    module: Ref,
    *,
    image: Annotated[str, typer.Option(help="Image of the workspace to run it in from now on.")],
    accelerator: Annotated[str, typer.Option(help="Of which runtime.")] = "cpu",
    keys: Annotated[list[str] | None, typer.Option("--keys", "--key", help=f"{KEYS} Signs at once.")] = None,
    as_json: Json = False,
) -> None:
    """Make the next version with only the image changed, once the new image gives the same answers."""
    screen, workspace = Screen(as_json=as_json), _workspace()
    ref, chosen = arguments.module_ref(module), workspace.image(image)
    signers = team_signers(keys, ref.team) if keys else ()
    with Fleet(config.load()) as fleet, screen.progress() as step:
        done = rebase_module(ref, chosen, fleet, workspace, step, accelerator=accelerator)
        result = done.module
        if signers:
            trusted, ref = Trusted(fleet, config.home()), done.manifest.ref
            result = sign_module(ref, signers=signers, fleet=fleet, trusted=trusted, workspace=workspace, step=step)
    screen.show(result, lambda it: it.say(f"{result.ref} is {result.state}: {result.digest}"))


def _verify_file(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    try:
        manifest = manifests.decode(data)
    except Invalid as error:
        raise Invalid(
            error.message, element=f"{file} {error.element}".strip(),
            remedy=error.remedy if error.element != "manifest" else
            "name images and files by digest (sha256:...), and use only the fields of a manifest",
        ) from error  # fmt: skip
    return {
        "ref": str(manifest.ref),
        "digest": sha256(data),
        "manifest": "valid",
        "signed": "not asked: this is a file",
    }


def _verify_ref(ref: ModuleRef, fleet: Fleet, step: Any) -> dict[str, Any]:
    data = fleet.manifest(ref)
    manifests.decode(data)
    workspace = _workspace()
    signed = Trusted(fleet, config.home()).signed_digest(ref)
    if signed is None:
        raise Untrusted("nobody has signed it", element=str(ref), remedy=f"edgefleet modules sign {ref} --keys FOLDER")
    if signed != sha256(data):
        raise Untrusted(f"the server has {sha256(data)}, the team signed {signed}", element=str(ref))
    here = workspace.module(ref).exists()
    if here and sha256(check_own(ref, workspace, step)) != signed:
        raise Untrusted("the workspace has other bytes than the team signed", element=str(workspace.module(ref)))
    return {
        "ref": str(ref),
        "digest": signed,
        "signed": f"by team {ref.team}",
        "own_files": "the same" if here else "not in this workspace",
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _workspace() -> Workspace:
    return Workspace(config.home() / "workspace")
