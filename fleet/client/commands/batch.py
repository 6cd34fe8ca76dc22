"""``edgefleet batch``: one module over a folder of inputs, once, to the end."""

import base64
from pathlib import Path
from typing import Annotated

import typer

from fleet.client import arguments, batch_jobs, config
from fleet.client.api import Fleet
from fleet.client.batch_jobs import Batch, BatchJob, OfDevice
from fleet.client.images.docker_engine import docker_engine
from fleet.client.local import batch_run
from fleet.client.local.batch_run import Progress, Wish
from fleet.client.local.containers import held_image
from fleet.client.screen import Counted, Json, Screen, when
from fleet.client.secret_file import read_secret
from fleet.client.workspace import MANIFEST, Workspace
from modules import manifest as manifests
from modules.errors import Invalid
from modules.manifest import Image, Manifest
from modules.names import device_id, slot_name, slug
from modules.program import INTERRUPTED
from modules.scoring.batch.items import Items

app = typer.Typer(no_args_is_help=True, help="Ask a module about a folder of inputs, once, to the end.")

Name = Annotated[str, typer.Argument(help="The job's name.")]
Wait = Annotated[bool, typer.Option("--wait", help="Watch until it has ended; exit code 1 unless it is done.")]
Workers = Annotated[int, typer.Option(min=1, max=256, help="Scoring servers side by side.")]
MiniBatch = Annotated[int, typer.Option(min=1, max=256, help="Inputs that each of them is asked at once.")]
Retries = Annotated[int, typer.Option(min=0, max=100, help="Tries more for an input at which the module fails.")]
Threshold = Annotated[int, typer.Option(min=-1, help="Stop when more inputs have failed; -1: never.")]
Timeout = Annotated[float, typer.Option(min=0, help="Seconds for one answer; 0: as the module says.")]
Match = Annotated[str, typer.Option(help="Which paths below the inputs, such as 2026-11/*.")]


@app.command()
def run(
    module: Annotated[str, typer.Argument(help="team/name:version of the workspace, or a module's folder.")],
    inputs: Annotated[Path, typer.Option(help="Folder of inputs: files, or lines of .jsonl files.")],
    outputs: Annotated[Path, typer.Option(help="Folder that gets answers.jsonl; run again, it goes on there.")],
    *,
    match: Match = "*",
    workers: Workers = 1,
    mini_batch: MiniBatch = 10,
    retries: Retries = 2,
    error_threshold: Threshold = -1,
    timeout: Timeout = 0.0,
    image: Annotated[str | None, typer.Option(help="Image of the workspace (default: the module's own).")] = None,
    memory_mb: Annotated[int | None, typer.Option(min=16, help="MiB for all workers together.")] = None,
    cpus: Annotated[float | None, typer.Option(min=0.01, help="Cores for all workers together.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be asked, and ask nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run it on this machine, in the module's own image, without a network."""
    screen = Screen(as_json=as_json)
    workspace = Workspace(config.home() / "workspace")
    folder = _folder(module, workspace)
    manifest = _manifest(folder)
    chosen = workspace.image(image) if image else _image(manifest, workspace)
    options = {
        "--match": match,
        "--mini-batch": str(mini_batch),
        "--retries": str(retries),
        "--error-threshold": str(error_threshold),
        "--timeout": str(timeout),
    }
    wish = Wish(
        module=folder, inputs=inputs, outputs=outputs, options=options, workers=workers, memory_mb=memory_mb, cpus=cpus
    )
    if dry_run:
        _show_plan(screen, wish, manifest, chosen, match)
        return
    with screen.progress() as step, docker_engine() as engine:
        held = held_image(engine, chosen, workspace.blobs, step)

        def told(progress: Progress) -> None:
            step(Counted("asking"), progress.answered + progress.set_aside, progress.items)

        try:
            done = batch_run.run(engine, held, wish, told)
        except KeyboardInterrupt:
            screen.remark("ended; the same command goes on where it was")
            raise typer.Exit(INTERRUPTED) from None
    document = {"answers": str(outputs / "answers.jsonl"), "items": done.items, "answered": done.answered}
    document |= {"set_aside": done.set_aside, "seconds": done.seconds}
    said = f"{done.answered} of {done.items} inputs are answered in {document['answers']}"
    more = f"; {done.set_aside} are set aside, with reasons in {outputs / 'set-aside.jsonl'}" if done.set_aside else ""
    screen.show(document, lambda it: it.say(said + more))


@app.command()
def start(
    name: Name,
    module: Annotated[str, typer.Option(help="team/name:version, signed.")],
    inputs: Annotated[str, typer.Option(help="Folder or volume of the target, or its name on the device.")],
    outputs: Annotated[str, typer.Option(help="Another one; a folder of the job's name in it gets answers.jsonl.")],
    *,
    target: Annotated[str | None, typer.Option(help="Where: see edgefleet targets list.")] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Or on this device, while it is idle; may be repeated.")
    ] = None,
    selector: Annotated[
        str | None, typer.Option(help="Or on the devices with these labels: site=berlin,line=2; or * for all.")
    ] = None,
    match: Match = "*",
    workers: Workers = 1,
    mini_batch: MiniBatch = 10,
    retries: Retries = 2,
    error_threshold: Threshold = -1,
    timeout: Timeout = 0.0,
    cpus: Annotated[float, typer.Option(min=0.01, help="Cores for all workers together.")] = 1.0,
    memory_mb: Annotated[int, typer.Option(min=0, help="MiB for all workers (0: as the manifest says).")] = 0,
    pods: Annotated[
        int, typer.Option(min=1, max=32, help="On a cluster, so many pods, each with all of that and a share.")
    ] = 1,
    secret: Annotated[
        list[str] | None, typer.Option(help="On a target, a secret of the module and the file with it: NAME=FILE.")
    ] = None,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Start a job on a target, a device, or many; under a name that it had before, it goes on from there."""
    if [target is None, not device, selector is None].count(False) != 1:
        raise Invalid(
            "say either a target or devices", element="batch start", remedy="give --target, --device or --selector"
        )
    settings = {
        "match": match, "workers": workers, "mini_batch": mini_batch, "retries": retries,
        "error_threshold": error_threshold, "timeout_s": timeout, "cpu_cores": cpus, "memory_mb": memory_mb,
    }  # fmt: skip
    if pods > 1:
        settings["pods"] = pods
    request = {
        "name": slot_name(name), "module": str(arguments.module_ref(module)),
        "inputs": inputs, "outputs": outputs, "settings": settings,
    }  # fmt: skip
    if secret:
        request["secrets"] = _secrets(secret, on_target=target is not None)
    named = [device_id(one) for one in device or ()]
    with Fleet(config.load()) as fleet:
        started: BatchJob | Batch
        if len(named) > 1 or selector is not None:
            whom = {"devices": named} if named else {"selector": selector}
            started = batch_jobs.start_on_many(fleet, request | whom)
        else:
            where = {"device": named[0]} if named else {"target": slug(target or "", what="target")}
            started = batch_jobs.start(fleet, request | where)
        _show_job(fleet, started, wait=wait, as_json=as_json)


@app.command("list")
def list_jobs(*, as_json: Json = False) -> None:
    """List the jobs on targets and devices, the newest first."""
    with Fleet(config.load()) as fleet:
        found = batch_jobs.every(fleet)
    rows = [(one.name, one.where, one.module, one.state, _counts(one), one.why) for one in found]
    headings = ("JOB", "WHERE", "MODULE", "STATE", "INPUTS", "WHY")
    Screen(as_json=as_json).show(
        found, lambda it: it.table(headings, rows, empty="No batch jobs: edgefleet batch start")
    )


@app.command()
def show(name: Name, *, wait: Wait = False, as_json: Json = False) -> None:
    """Show how far a job is."""
    with Fleet(config.load()) as fleet:
        _show_job(fleet, batch_jobs.one(fleet, slot_name(name)), wait=wait, as_json=as_json)


@app.command()
def logs(
    name: Name, lines: Annotated[int, typer.Option(help="So many of the last lines.")] = 100, *, as_json: Json = False
) -> None:
    """Show the last lines of a job's log."""
    with Fleet(config.load()) as fleet:
        found = batch_jobs.logs(fleet, slot_name(name), lines=lines)

    def show_lines(screen: Screen) -> None:
        for text in found.values():
            for line in text.rstrip("\n").split("\n"):
                screen.line(line)

    Screen(as_json=as_json).show(found, show_lines)


@app.command()
def cancel(name: Name, *, as_json: Json = False) -> None:
    """End a job; what it has answered so far stays."""
    with Fleet(config.load()) as fleet:
        done = batch_jobs.cancel(fleet, slot_name(name))
    Screen(as_json=as_json).show(done, lambda it: it.say(f"{name} is cancelled"))


def _secrets(words: list[str], *, on_target: bool) -> dict[str, str]:
    """The values of ``NAME=FILE`` words, as the server takes them.

    Raises:
        Invalid: a word is none, or is given twice; or the job is on devices.
    """
    if not on_target:
        raise Invalid(
            "a job on a device has the secrets of the slot beside which it runs",
            element="--secret",
            remedy="leave it out; set those of the slot: edgefleet secrets set NAME --slot SLOT",
        )
    found: dict[str, str] = {}
    for word in words:
        name, _, file = word.partition("=")
        if not file or not name or name in found:
            raise Invalid("name each secret once, with the file that has it", element="--secret", remedy="NAME=FILE")
        found[name] = base64.b64encode(read_secret(Path(file))).decode()
    return found


def _show_job(fleet: Fleet, job: BatchJob | Batch, *, wait: bool, as_json: bool) -> None:
    screen = Screen(as_json=as_json)
    found = job
    if wait:
        for one in job.misfits if isinstance(job, Batch) else ():
            screen.remark(f"not on {one.device}: {one.why}")
        with screen.progress() as step:
            found = batch_jobs.watch(fleet, job.name, step)
    place = "selector" if isinstance(found, Batch) else "device" if found.device else "target"
    pairs = [
        ("job", found.name), (place, found.selector if isinstance(found, Batch) else found.where),
        ("module", found.module), ("state", f"{found.state} since {when(found.since)}"), ("why", found.why),
        ("inputs", _counts(found)), ("answers", found.outputs),
    ]  # fmt: skip

    def human(it: Screen) -> None:
        it.fields(pairs)
        if isinstance(found, Batch):
            rows = [(one.device, one.state, _counts(one), one.why) for one in found.jobs]
            rows += [(one.device, "not started", "", one.why) for one in found.misfits]
            it.table(("DEVICE", "STATE", "INPUTS", "WHY"), rows, empty="")

    screen.show(found, human)
    if wait and found.state != "done":
        raise typer.Exit(1)


def _counts(job: BatchJob | Batch | OfDevice) -> str:
    aside = f", {job.set_aside} set aside" if job.set_aside else ""
    return f"{job.answered} of {job.items} answered{aside}" if job.items else ""


def _folder(module: str, workspace: Workspace) -> Path:
    """A folder, or where a module of the workspace lies.

    Raises:
        Invalid: neither has a manifest.
    """
    path = Path(module)
    folder = path if path.exists() or ":" not in module else workspace.module(arguments.module_ref(module))
    if not (folder / MANIFEST).is_file():
        raise Invalid(
            "there is no such module here", element=module, remedy="register it, or name a folder with manifest.json"
        )
    return folder


def _manifest(folder: Path) -> Manifest:
    return manifests.decode((folder / MANIFEST).read_bytes())


def _image(manifest: Manifest, workspace: Workspace) -> Image:
    """The module's own for a CPU; that of the workspace where it names none."""
    for runtime in manifest.runtimes:
        if runtime.image is not None and runtime.accelerator == "cpu":
            return runtime.image
    return workspace.image(None)


def _show_plan(screen: Screen, wish: Wish, manifest: Manifest, image: Image, match: str) -> None:
    items = Items(wish.inputs.absolute(), match)
    before = batch_run.done_before(wish.outputs)
    document = {
        "module": str(manifest.ref),
        "image": image.name,
        "items": len(items),
        "done": before.answered + before.set_aside if before else 0,
        "first": items[0].name if len(items) else "",
        "arguments": wish.arguments,
    }
    screen.show(document, lambda it: it.fields(list(document.items())))
