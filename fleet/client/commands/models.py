"""``edgefleet models``: what data scientists call it, before it is a module and after."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fleet.client import arguments, config
from fleet.client.answers import Module
from fleet.client.api import Fleet
from fleet.client.download import download as download_files
from fleet.client.offline_keys import team_signers
from fleet.client.publish import Registered
from fleet.client.register import Model
from fleet.client.register import register as register_model
from fleet.client.screen import Json, Screen, size, when
from fleet.client.sign import sign
from fleet.client.trusted import Trusted
from fleet.client.workspace import Workspace
from modules.manifest import Manifest
from modules.names import ModuleRef, slug

app = typer.Typer(no_args_is_help=True, help="Register models as modules; list, show and download them.")
Ref = Annotated[str, typer.Argument(help="team/name:version.")]


@app.command()
def register(
    path: Annotated[Path, typer.Argument(help="An ONNX file; with --entry-script any file or folder.")],
    *,
    name: Annotated[str, typer.Option("--name", "-n", help="The model's name.")],
    team: Annotated[str, typer.Option(help="The team that will sign it.")],
    image: Annotated[
        str | None, typer.Option(help="Image of the workspace to run it in (default: the only one).")
    ] = None,
    sample: Annotated[
        list[Path] | None,
        typer.Option(help='A request: {"body": ..., "expect": ...} or the body itself; may be repeated.'),
    ] = None,
    engine: Annotated[
        Literal["docker", "process"], typer.Option(help="Compute the reference answers in the image, or without one.")
    ] = "docker",
    interpreter: Annotated[
        str, typer.Option(help="Python with edgefleet[scoring], for --engine process (default: this one).")
    ] = "",
    entry_script: Annotated[Path | None, typer.Option(help="Script with init() and run(data).")] = None,
    source_dir: Annotated[Path | None, typer.Option(help="Folder with the entry script and what it imports.")] = None,
    prove: Annotated[
        Literal["samples", "ready-only"], typer.Option(help="ready-only: go without samples; reports say unproved.")
    ] = "samples",
    tag: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated.")] = None,
    model_property: Annotated[list[str] | None, typer.Option("--property", help="key=value; may be repeated.")] = None,
    description: Annotated[str, typer.Option(help="A sentence or two.")] = "",
    probation: Annotated[str | None, typer.Option(help="How long it must stay healthy on a device: 30s, 5m.")] = None,
    memory_mb: Annotated[int | None, typer.Option(min=16, help="Memory it needs and may use, in MiB.")] = None,
    adjustable: Annotated[
        list[str] | None,
        typer.Option(help="name=default:min:max that an order may change; may be repeated."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Folder of the offline keys: sign at once.")] = None,
    as_json: Json = False,
) -> None:
    """Check a model, compute its reference answers, pack it, and send it as a draft."""
    screen = Screen(as_json=as_json)
    model = Model(
        path=path, team=slug(team, what="team"), name=slug(name, what="model name"), engine=engine, image=image,
        interpreter=interpreter, entry_script=entry_script, source_dir=source_dir, samples=tuple(sample or ()),
        prove=prove, probation_s=None if probation is None else arguments.seconds(probation, option="--probation"),
        memory_mb=memory_mb, adjustable=arguments.adjustable(adjustable or (), option="--adjustable"),
        description=description, tags=arguments.pairs(tag or (), option="--tag"),
        properties=arguments.pairs(model_property or (), option="--property"),
    )  # fmt: skip
    signers = team_signers(key, model.team) if key else ()
    with Fleet(config.load()) as fleet, screen.progress() as step:
        workspace, trusted = _workspace(), Trusted(fleet, config.home())
        done = register_model(model, fleet, workspace, step)
        module = done.module
        if signers:
            module = sign(
                done.manifest.ref, signers=signers, fleet=fleet, trusted=trusted, workspace=workspace, step=step
            )
    document = {
        "ref": str(done.manifest.ref),
        "digest": done.module.digest,
        "state": module.state,
        "proved_by": done.manifest.proof.prove,
        "uploaded": done.uploaded,
        "folder": str(done.folder),
    }
    screen.show(document, lambda it: _registered(it, done, module.state))


def _registered(screen: Screen, done: Registered, state: str) -> None:
    ref = done.manifest.ref
    screen.fields(
        [
            ("module", ref),
            ("digest", done.module.digest),
            ("state", state),
            ("files", f"{len(done.manifest.files)}, {size(sum(one.length for one in done.manifest.files))}"),
            ("uploaded", size(done.uploaded)),
            (
                "proof",
                "unproved: ready is all that devices check" if done.manifest.proof.prove == "ready-only" else "samples",
            ),
        ]
    )
    if state == "draft":
        screen.remark(f"Next: edgefleet modules sign {ref} --keys FOLDER")


@app.command("list")
def list_models(*, as_json: Json = False) -> None:
    """List the models, each with its versions."""
    with Fleet(config.load()) as fleet:
        modules = fleet.modules()
    models: dict[str, list[Module]] = {}
    for module in modules:
        models.setdefault(module.ref.rpartition(":")[0], []).append(module)
    Screen(as_json=as_json).show(
        [{"model": name, "versions": versions} for name, versions in models.items()],
        lambda it: it.table(
            ("MODEL", "VERSIONS"),
            (
                (name, ", ".join(f"{one.ref.rpartition(':')[2]} ({one.state})" for one in versions))
                for name, versions in models.items()
            ),
            empty="No models yet: edgefleet models register FILE -n NAME --team TEAM",
        ),
    )


@app.command()
def show(model: Ref, *, as_json: Json = False) -> None:
    """Show one version of a model: what it serves, its files, what it runs on."""
    with Fleet(config.load()) as fleet:
        found = fleet.module(ModuleRef.parse(model))
    Screen(as_json=as_json).show(found, lambda it: show_module(it, found))


@app.command()
def download(
    model: Ref,
    to: Annotated[Path, typer.Option("--to", help="Folder to write to; made if it is not there.")] = Path(),
    *,
    as_json: Json = False,
) -> None:
    """Get the files of a model back, each checked against its digest."""
    screen = Screen(as_json=as_json)
    with Fleet(config.load()) as fleet, screen.progress() as step:
        written = download_files(ModuleRef.parse(model), fleet, to, step)
    screen.show([str(path) for path in written], lambda it: it.say("\n".join(map(str, written))))


def show_module(screen: Screen, module: Module) -> None:
    """A module for people."""
    manifest = module.manifest
    screen.fields(
        [
            ("module", module.ref),
            ("state", module.state),
            ("digest", module.digest),
            ("created", when(module.created)),
            *(_described(manifest) if manifest else ()),
        ]
    )
    if manifest:
        rows = ((one.path, size(one.length), one.sha256) for one in manifest.files)
        screen.table(("FILE", "SIZE", "DIGEST"), rows, empty="")


def _described(manifest: Manifest) -> list[tuple[str, Any]]:
    serve = manifest.serve
    return [
        ("description", manifest.description),
        ("serves", getattr(serve, "file", None) or getattr(serve, "script", "")),
        ("proof", "unproved: ready is all that devices check" if manifest.proof.prove == "ready-only" else "samples"),
        ("probation", f"{manifest.proof.probation_s:g} s"),
        ("needs", f"{manifest.needs.memory_mb} MiB of memory"),
        ("adjustable", ", ".join(manifest.adjustable)),
        ("tags", ", ".join(f"{key}={value}" for key, value in manifest.tags.items())),
        ("properties", ", ".join(f"{key}={value}" for key, value in manifest.properties.items())),
        *(
            (
                "runs on",
                f"{one.platform} {one.accelerator}, {one.image.name if one.image else 'no image: process only'}",
            )
            for one in manifest.runtimes
        ),
    ]


def _workspace() -> Workspace:
    return Workspace(config.home() / "workspace")
