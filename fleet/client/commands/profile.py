"""``edgefleet models profile``: what to ask for a model, from measurements in its own container."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fleet.client import arguments, config
from fleet.client.api import Fleet
from fleet.client.local import kept_profiles
from fleet.client.local.profile import CONNECTIONS, Profile, Run, profile_module
from fleet.client.models.sample_requests import Request, read_request
from fleet.client.publishing.register import Model, prepare
from fleet.client.screen import Json, Screen
from fleet.client.workspace import FILES, Workspace
from modules import samples as samples_file
from modules.errors import Invalid
from modules.manifest import Image, Manifest
from modules.names import slug


def profile(
    model: Annotated[str, typer.Argument(help="team/name:version registered on this machine, or a model's file.")],
    *,
    request: Annotated[
        list[Path] | None,
        typer.Option(
            "--input", help="A request as --sample of register takes it; may be repeated (default: its samples)."
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(help="Image of the workspace, for a file (default: the only one that is not an environment's)."),
    ] = None,
    entry_script: Annotated[Path | None, typer.Option(help="Script with init() and run(data), for a file.")] = None,
    source_dir: Annotated[Path | None, typer.Option(help="Folder with the entry script and what it imports.")] = None,
    trusted_pickle: Annotated[bool, typer.Option("--trusted-pickle", help="As for register.")] = False,
    latency_ms: Annotated[
        float | None, typer.Option(min=0.01, help="What 95 of 100 requests must keep; without it: nearly the best.")
    ] = None,
    cores: Annotated[
        list[float] | None, typer.Option(help="A number of cores to try; may be repeated (default: 0.25 to all).")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.2, help="How long each measurement lasts, twice.")] = 2.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the result on the server, for a registered module.")
    ] = False,
    hardware: Annotated[
        str, typer.Option(help="What it is measured on, in your words (default: this machine's processor).")
    ] = "",
    as_json: Json = False,
) -> None:
    """Run a model in containers under a range of limits, and recommend processor and memory."""
    screen = Screen(as_json=as_json)
    workspace = Workspace(config.home() / "workspace")
    requests = tuple(read_request(file) for file in request or ())
    if keep and Path(model).exists():
        raise Invalid("a file has no version to keep it for", element="--keep", remedy="register it first")
    with ExitStack() as stack:
        step = stack.enter_context(screen.progress())
        if Path(model).exists():
            described = Model(
                path=Path(model), team=slug("profile", what="team"), name=slug("model", what="model name"),
                image=image, entry_script=entry_script, source_dir=source_dir, samples=tuple(request or ()),
                trusted_pickle=trusted_pickle,
            )  # fmt: skip
            folder = stack.enter_context(workspace.staging())
            chosen = workspace.image(image)
            manifest = prepare(described, chosen, workspace.blobs, folder, step)
        else:
            ref = arguments.module_ref(model)
            folder, (manifest, _) = workspace.module(ref), workspace.manifest(ref)
            chosen = _image(manifest)
        found = profile_module(
            folder, chosen, workspace.blobs, requests or _samples(manifest, folder), seconds=seconds,
            latency_ms=latency_ms, cores=tuple(cores or ()), step=step, told=lambda run: screen.remark(_line(run)),
        )  # fmt: skip
        if keep:
            fleet = stack.enter_context(Fleet(config.load()))
            kept_profiles.send(fleet, arguments.module_ref(model), hardware or kept_profiles.here(), found)
    screen.show(found, lambda it: _show(it, found))


def _image(manifest: Manifest) -> Image:
    for runtime in manifest.runtimes:
        if runtime.image is not None:
            return runtime.image
    raise Invalid("it has no image to measure it in", element=str(manifest.ref), remedy="register it with an image")


def _samples(manifest: Manifest, folder: Path) -> tuple[Request, ...]:
    if manifest.proof.prove != "samples":
        raise Invalid("there is no request to measure with", element=str(manifest.ref), remedy="add --input FILE.json")
    found = samples_file.decode((folder / FILES / manifest.proof.samples).read_bytes())
    return tuple(
        Request(name=one.name, path=one.path, method=one.method, content_type=one.content_type, body=one.body)
        for one in found.samples
    )


def _line(run: Run) -> str:
    limit = f"{run.memory_mb} MiB" if run.memory_mb else "no memory limit"
    return f"{run.cpu:g} cores, {limit}: " + (run.problem or f"{run.mean_ms:.2f} ms, {run.per_second:.0f} a second")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _show(screen: Screen, found: Profile) -> None:
    screen.table(
        (
            "CORES",
            "MEMORY LIMIT",
            "MEAN MS",
            "95 % MS",
            f"PER SECOND ({CONNECTIONS} AT A TIME)",
            "MEMORY AT MOST",
            "",
        ),
        (
            (
                f"{run.cpu:g}",
                f"{run.memory_mb} MiB" if run.memory_mb else "none",
                _number(run.mean_ms, 2),
                _number(run.p95_ms, 2),
                _number(run.per_second, 0),
                f"{_number(run.peak_mb, 0)} MiB" if run.peak_mb else "-",
                run.problem,
            )
            for run in found.runs
        ),
        empty="",
    )
    recommended = {"cpu": found.cpu, "memoryInGB": found.memory_gb}
    screen.say(msgspec.json.encode(recommended).decode())
