"""``edgefleet models``: what data scientists call it, before it is a module and after."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from fleet.client import arguments, config
from fleet.client.answers import Module
from fleet.client.api import Fleet
from fleet.client.commands.profile import profile
from fleet.client.commands.register import register
from fleet.client.publishing.download import download as download_files
from fleet.client.publishing.find import by_id
from fleet.client.screen import Json, Screen, size, when
from modules.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Register models as modules; list, show and download them.")
Ref = Annotated[str, typer.Argument(help="team/name:version.")]
# As much of a key's id as people compare.
_KEY: Final = 16


app.command()(register)
app.command()(profile)


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
        found = fleet.module(arguments.module_ref(model))
    Screen(as_json=as_json).show(found, lambda it: show_module(it, found))


@app.command()
def download(
    model: Annotated[str, typer.Argument(help="team/name:version.")] = "",
    to: Annotated[
        Path, typer.Option("--to", "--target-dir", "-t", help="Folder to write to; made if it is not there.")
    ] = Path(),
    *,
    model_id: Annotated[str, typer.Option("--model-id", "-i", help="The model, as az ml names it: name:version.")] = "",
    as_json: Json = False,
) -> None:
    """Get the files of a model back, each checked against its digest."""
    screen = Screen(as_json=as_json)
    if not (model or model_id):
        raise typer.BadParameter("name the model: team/name:version, or --model-id name:version")
    with Fleet(config.load()) as fleet, screen.progress() as step:
        ref = arguments.module_ref(model) if model else by_id(model_id, fleet)
        written = download_files(ref, fleet, to, step)
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
            ("signed by", ", ".join(f"key {one[:_KEY]}" for one in module.signers)),
            *(_described(manifest) if manifest else ()),
        ]
    )
    if manifest:
        rows = ((one.path, size(one.length), screen.digest(one.sha256)) for one in manifest.files)
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
        ("secrets", ", ".join(manifest.declared)),
        ("confidential", "yes: never broadcast" if manifest.is_confidential else ""),
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
