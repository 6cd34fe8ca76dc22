"""``edgefleet models register``: a model of any kind becomes a module's draft; its many options are read here."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import typer

from fleet.client import arguments, config
from fleet.client.api import Fleet
from fleet.client.environments import options
from fleet.client.environments.environment import Environment
from fleet.client.environments.inference_config import read_inference_config
from fleet.client.environments.store import build_environment
from fleet.client.images.base_image import Registry
from fleet.client.models.divisions import divisions
from fleet.client.models.failed_answers import reads_like_failure
from fleet.client.publishing.publish import Registered
from fleet.client.publishing.register import CONVERTED_FROM, LARGEST_DIFFERENCE, Model
from fleet.client.publishing.register import register as register_model
from fleet.client.publishing.uploads import expect_in, fetched
from fleet.client.screen import Json, Screen, Step, size
from fleet.client.signing.offline_keys import KEYS, team_signers
from fleet.client.signing.sign import sign
from fleet.client.signing.trusted import Trusted
from fleet.client.workspace import FILES, Workspace
from modules import samples as samples_file
from modules.errors import Invalid
from modules.manifest import EntryScript
from modules.names import Digest, digest, slug
from modules.samples import Sample

# Of a request and an answer, on a terminal.
_SHOWN: Final = 120


def register(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="An ONNX file; a pickled scikit-learn model, a SavedModel, a model file of XGBoost or LightGBM; "
            "with --entry-script any file or folder."
        ),
    ] = None,
    *,
    name: Annotated[
        str, typer.Option("--name", "-n", help="The model's name; capitals, underscores and dots become hyphens.")
    ],
    team: Annotated[str, typer.Option(help="The team that will sign it.")],
    image: Annotated[
        str | None,
        typer.Option(help="Image of the workspace to run it in (default: the only one that is not an environment's)."),
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
    serve: Annotated[
        Path | None,
        typer.Option(help="Several models, pipelines, ensembles, images: the manifest's serve, in a file of yours."),
    ] = None,
    inference_config: Annotated[
        Path | None,
        typer.Option("--ic", "--inference-config", help="Azure ML's inferenceconfig.json: script and environment."),
    ] = None,
    conda_file: options.CondaFile = None,
    requirements: options.RequirementsFile = None,
    kept: options.Kept = None,
    base_image: options.BaseImage = "",
    registry: options.RegistryAddress = "",
    registry_username: options.RegistryUser = "",
    registry_password: options.RegistryPassword = "",
    python: options.Python = "",
    docker_steps: options.DockerSteps = None,
    upgrade: options.Upgrade = False,
    framework: Annotated[
        Literal["onnx", "sklearn", "tensorflow", "xgboost", "lightgbm"] | None,
        typer.Option(help="What saved the model (default: as its file looks); all but onnx are converted."),
    ] = None,
    converter: Annotated[
        str, typer.Option(help="Python that has the model's library and its converter (default: this one).")
    ] = "",
    signature: Annotated[str, typer.Option(help="Which signature of a SavedModel; serving_default without it.")] = "",
    trusted_pickle: Annotated[
        bool, typer.Option("--trusted-pickle", help="Open the pickle, which runs as a program: you know who made it.")
    ] = False,
    prove: Annotated[
        Literal["samples", "ready-only"], typer.Option(help="ready-only: go without samples; reports say unproved.")
    ] = "samples",
    upload: Annotated[
        list[str] | None,
        typer.Option(help="Digest of a file that was uploaded to the server, instead of PATH; may be repeated."),
    ] = None,
    path_option: Annotated[Path | None, typer.Option("--path", "-p", help="PATH, as az ml names it.")] = None,
    asset_path: Annotated[str, typer.Option(help="Of az ml: only says what to do instead.", hidden=True)] = "",
    run_id: Annotated[str, typer.Option(help="Of az ml: only says what to do instead.", hidden=True)] = "",
    tag: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated.")] = None,
    model_property: Annotated[list[str] | None, typer.Option("--property", help="key=value; may be repeated.")] = None,
    description: Annotated[str, typer.Option("--description", "-d", help="A sentence or two.")] = "",
    probation: Annotated[str | None, typer.Option(help="How long it must stay healthy on a device: 30s, 5m.")] = None,
    memory_mb: Annotated[int | None, typer.Option(min=16, help="Memory it needs and may use, in MiB.")] = None,
    adjustable: Annotated[
        list[str] | None,
        typer.Option(help="name=default:min:max that an order may change; may be repeated."),
    ] = None,
    fallback_host: Annotated[
        list[str] | None,
        typer.Option(help="Host that a rollout's --fallback may name, *.host for one name below it; may be repeated."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            help="Secret that it reads from /run/secrets/NAME; NAME:optional, NAME:file, NAME:signal; may be repeated."
        ),
    ] = None,
    confidential: Annotated[
        bool, typer.Option("--confidential", help="Never broadcast it: each device pulls it by itself.")
    ] = False,
    data_class: Annotated[
        str,
        typer.Option(help="Kind of the data it is asked with (personal, medical), for --data-region or --data-stays."),
    ] = "",
    data_region: Annotated[
        list[str] | None, typer.Option(help="Region to which these data may go, and no other; may be repeated.")
    ] = None,
    data_stays: Annotated[
        bool, typer.Option("--data-stays", help="These data never leave the site: no fallback in the cloud.")
    ] = False,
    key: Annotated[list[str] | None, typer.Option("--key", "--keys", help=f"{KEYS} Signs at once.")] = None,
    as_json: Json = False,
) -> None:
    """Check a model, compute its reference answers, pack it, and send it as a draft."""
    screen = Screen(as_json=as_json)
    uploaded = [digest(one) for one in upload or ()]
    model = Model(
        path=_path(path or path_option, asset_path or run_id, uploaded), team=slug(team, what="team"),
        name=arguments.model_name(name), engine=engine, image=image,
        interpreter=interpreter, entry_script=entry_script, source_dir=source_dir, serve=serve,
        samples=tuple(sample or ()), prove=prove,
        probation_s=None if probation is None else arguments.seconds(probation, option="--probation"),
        memory_mb=memory_mb, adjustable=arguments.adjustable(adjustable or (), option="--adjustable"),
        fallback_hosts=arguments.fallback_hosts(fallback_host or (), option="--fallback-host"),
        description=description, tags=arguments.pairs(tag or (), option="--tag"),
        properties=arguments.pairs(model_property or (), option="--property"), framework=framework,
        converter=converter, signature=signature, trusted_pickle=trusted_pickle, confidential=confidential,
        secrets=arguments.secrets(secret or (), option="--secret"),
        data=arguments.data_rule(data_class, data_region or (), stays=data_stays),
    )  # fmt: skip
    configured = None
    if inference_config is not None:
        model, configured = _configured(model, inference_config)
    chosen = options.Chosen(
        conda_file=conda_file, requirements=requirements, kept=kept, base_image=base_image, python=python,
        registry=Registry(address=registry, username=registry_username, password=registry_password),
        docker_steps=docker_steps,
    )  # fmt: skip
    environment = chosen.environment("" if kept or configured else model.name, without=configured)
    signers = team_signers(key, model.team) if key else ()
    workspace = Workspace(config.home() / "workspace")
    with Fleet(config.load()) as fleet, screen.progress() as step:
        trusted = Trusted(fleet, config.home())
        trusted.expect_team(model.team)
        if model.name != name:
            screen.remark(f"{name} is called {model.name} here")
        if environment is not None:
            model = _with_environment(model, environment, workspace, screen, step, upgrade=upgrade)
        done = _register(model, uploaded, fleet, workspace, step)
        module = done.module
        if signers:
            module = sign(
                done.manifest.ref, signers=signers, fleet=fleet, trusted=trusted, workspace=workspace, step=step
            )
    samples = _samples(done)
    screen.show(
        _document(done, module.state, environment, samples), lambda it: _registered(it, done, module.state, samples)
    )
    for one in samples:
        if reads_like_failure(one.answer):
            screen.remark(
                f"Warning: the answer to sample {one.name} reads like a failure, and devices will be held to it: "
                f"{_shown(one.answer)}\nCorrect the script or the sample, and register again."
            )
    for file, node in _divisions(done):
        screen.remark(
            f"Warning: {file}: {node} divides whole numbers that a request decides: a request that divides the "
            "smallest one by -1 ends the scoring server, and others wait until it is started again.\n"
            "Keep -1 away from it in the graph (Clip, Where), or divide floats; docs/scoring.md has more."
        )


def _register(model: Model, uploaded: Sequence[Digest], fleet: Fleet, workspace: Workspace, step: Step) -> Registered:
    """As :func:`register_model`, for what was uploaded, too: then the module has these very bytes, or no signature."""
    if not uploaded:
        return register_model(model, fleet, workspace, step)
    with fetched(fleet, model.team, uploaded, step) as path:
        done = register_model(msgspec.structs.replace(model, path=path), fleet, workspace, step)
    if CONVERTED_FROM not in done.manifest.properties:
        expect_in(done.manifest, uploaded)
    return done


def _path(path: Path | None, of_a_run: str, uploaded: Sequence[Digest]) -> Path:
    """The model's file or folder; what only Azure ML has is told how it gets here."""
    if of_a_run:
        raise Invalid(
            "the files of a run are in Azure ML, which nothing here asks",
            element="--asset-path and --run-id",
            remedy="fetch them (az ml job download, or run.download_file), then register the file: --path FILE",
        )
    if path is not None and uploaded:
        raise Invalid("a file here, and one that was uploaded", element="--upload", remedy="leave one of the two out")
    if path is None and not uploaded:
        raise typer.BadParameter("name the model's file or folder: PATH, or --path PATH, or --upload DIGEST")
    return path or Path()


def _configured(model: Model, file: Path) -> tuple[Model, Environment | None]:
    """The model with what ``inferenceconfig.json`` says of script and environment."""
    if model.entry_script or model.source_dir:
        raise Invalid(
            "the entry script is named twice", element="--ic", remedy="leave --entry-script and --source-dir out"
        )
    found = read_inference_config(file, name=model.name)
    return (
        msgspec.structs.replace(model, entry_script=found.entry_script, source_dir=found.source_dir),
        found.environment,
    )


def _with_environment(
    model: Model, environment: Environment, workspace: Workspace, screen: Screen, step: Step, *, upgrade: bool
) -> Model:
    """The model in the image of its environment, which is built now."""
    if model.entry_script is None:
        raise Invalid(
            "an environment is for an entry script", element="--entry-script", remedy="name the script, or leave it out"
        )
    if model.image or model.engine == "process":
        raise Invalid(
            "an environment is an image of its own",
            element="--image" if model.image else "--engine process",
            remedy="leave one of the two out",
        )
    for entry in environment.requirements.entries:
        screen.remark(str(entry))
    image, _ = build_environment(environment, workspace, step, line=screen.remark, upgrade=upgrade)
    return msgspec.structs.replace(model, image=image.name)


def _samples(done: Registered) -> tuple[Sample, ...]:
    """What devices will be held to."""
    place = done.folder / FILES / done.manifest.proof.samples
    return samples_file.decode(place.read_bytes()).samples if done.manifest.proof.prove == "samples" else ()


def _divisions(done: Registered) -> Iterator[tuple[str, str]]:
    """Divisions in the graphs that the server itself runs; a script's run in a worker, whose end is one request's."""
    if isinstance(done.manifest.serve, EntryScript):
        return
    for file in done.manifest.files:
        if file.path.endswith(".onnx"):
            yield from ((file.path, node) for node in divisions(done.folder / FILES / file.path))


def _shown(content: bytes) -> str:
    text = content.decode("utf-8", "replace").strip()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _document(
    done: Registered, state: str, environment: Environment | None, samples: tuple[Sample, ...]
) -> dict[str, Any]:
    properties = done.manifest.properties
    entries = environment.requirements.entries if environment else ()
    return {
        "ref": str(done.manifest.ref),
        "digest": done.module.digest,
        "state": state,
        "proved_by": done.manifest.proof.prove,
        "uploaded": done.uploaded,
        "folder": str(done.folder),
        "converted_from": properties.get(CONVERTED_FROM),
        "largest_difference": properties.get(LARGEST_DIFFERENCE),
        "samples": [
            {"name": one.name, "status": one.status, "answer": one.answer.decode("utf-8", "replace")} for one in samples
        ],
        "environment": [{"entry": one.text, "became": one.became, "note": one.note} for one in entries],
    }


def _registered(screen: Screen, done: Registered, state: str, samples: tuple[Sample, ...]) -> None:
    ref, properties = done.manifest.ref, done.manifest.properties
    proof = "unproved: ready is all that devices check" if done.manifest.proof.prove == "ready-only" else "samples"
    screen.fields(
        [
            ("module", ref),
            ("digest", done.module.digest),
            ("state", state),
            ("files", f"{len(done.manifest.files)}, {size(sum(one.length for one in done.manifest.files))}"),
            ("uploaded", size(done.uploaded)),
            ("proof", proof),
            ("converted from", properties.get(CONVERTED_FROM)),
            ("differs from it by", f"at most {properties[LARGEST_DIFFERENCE]}" if CONVERTED_FROM in properties else ""),
        ]
    )
    if samples:
        rows = ((one.name, _shown(one.body), _shown(one.answer)) for one in samples)
        screen.table(("SAMPLE", "REQUEST", "ANSWER"), rows, empty="")
    if state == "draft":
        screen.remark(f"Next: edgefleet modules sign {ref} --keys FOLDER")
