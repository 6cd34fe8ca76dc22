"""A model becomes a module: checked, packed, its reference answers computed in the scoring image, sent as a draft."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from fleet.client.api import Fleet
from fleet.client.local import references
from fleet.client.local.scorers import ContainerScorer, Scorer, container_scorer, process_scorer
from fleet.client.models.check_model import EXPORT, check_onnx, checker_says
from fleet.client.models.conversion import Framework, Original, answers, convert, framework_of, largest_difference
from fleet.client.models.sample_requests import (
    DECIMALS,
    RANDOM_COUNT,
    Request,
    graph_requests,
    read_request,
    script_request,
)
from fleet.client.publishing import pack
from fleet.client.publishing.publish import Registered, publish
from fleet.client.publishing.serve_file import read_serve
from fleet.client.screen import Step
from fleet.client.workspace import FILES, Workspace
from modules import samples as samples_file
from modules.data_rule import DataRule
from modules.errors import Invalid, NotReady
from modules.images import read_config
from modules.manifest import (
    EntryScript,
    Image,
    Limits,
    Manifest,
    ModelSet,
    Needs,
    OnnxGraph,
    Proof,
    Runtime,
    SecretFile,
)
from modules.names import Slug, module_path
from modules.settable import Adjustable
from modules.unpacked import sized

# The manifest that the scoring server reads while references are computed has no number yet.
_UNNUMBERED: Final = "0"
_SAMPLES: Final = "samples.json"
_GRAPHS: Final = (".onnx", ".ort")
# A container's limit on a device is what its module needs, so there is room above what the samples took.
_HEADROOM: Final = 1.5
# The scoring server takes JSON of up to this part of the memory that is left to it.
_MEMORY_PER_BYTE: Final = 32
_BASE64: Final = 4 / 3
# How many requests are made up for a graph, and with how many decimals: the first that devices can hold.
_SMALLER: Final = ((RANDOM_COUNT, DECIMALS), (1, DECIMALS), (1, 1), (1, 0))
_MEMORY_STEP: Final = 64 << 20
# Properties of a module that was converted; the difference is the largest among all samples.
CONVERTED_FROM: Final = "converted_from"
LARGEST_DIFFERENCE: Final = "largest_difference"

Serve = OnnxGraph | ModelSet | EntryScript


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be registered, as the user says it.

    ``path`` is an ONNX file, a folder with one, a model of another ``framework`` that becomes ONNX here, or with
    ``entry_script`` any file or folder. ``entry_script`` is a path
    below ``source_dir``, or a file of its own. ``serve`` is a file that says what of ``path`` is served, and how.
    ``image`` names one of the workspace; ``interpreter`` is for the
    ``process`` engine. ``converter`` is a Python that has the other framework, ``signature`` one of a SavedModel's;
    ``trusted_pickle`` lets a pickle be opened. What is ``confidential`` is never broadcast; ``secrets`` are those that
    it is given. Memory in MiB.
    """

    path: Path
    team: Slug
    name: Slug
    engine: Literal["docker", "process"] = "docker"
    image: str | None = None
    interpreter: str = ""
    entry_script: Path | None = None
    source_dir: Path | None = None
    serve: Path | None = None
    samples: tuple[Path, ...] = ()
    prove: Literal["samples", "ready-only"] = "samples"
    probation_s: float | None = None
    memory_mb: int | None = None
    adjustable: dict[str, Adjustable] = {}
    fallback_hosts: tuple[str, ...] = ()
    description: str = ""
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    confidential: bool = False
    data: DataRule | None = None
    secrets: tuple[SecretFile, ...] = ()
    framework: Framework | None = None
    converter: str = ""
    signature: str = ""
    trusted_pickle: bool = False


def register(model: Model, fleet: Fleet, workspace: Workspace, step: Step) -> Registered:
    """Do all of it; nothing reaches the server before the model has answered.

    Raises:
        Invalid: the model, a sample or a name cannot be used.
        Unproved: the model does not start, fails, or does not answer as expected.
        NoEngine, BadSettings: the scoring server cannot be run here.
        EdgefleetError: as :class:`Fleet`.
    """
    image = workspace.image(model.image) if model.image or model.engine == "docker" else None
    with workspace.staging() as folder:
        manifest = prepare(model, image, workspace.blobs, folder, step)
        return publish(manifest, folder, fleet, workspace, step)


def prepare(model: Model, image: Image | None, blobs: Path, folder: Path, step: Step) -> Manifest:
    """Pack the model into ``folder`` with its samples; the manifest returned has the version 0.

    Raises:
        Invalid, Unproved, NoEngine, BadSettings: as :func:`register`.
    """
    original = _original(model)
    if original is None:
        return _pack(model, image, blobs, folder, step)
    with tempfile.TemporaryDirectory(prefix="edgefleet-converted-") as scratch:
        step(f"converting from {original.framework}", 0, 0)
        given = tuple(read_request(file) for file in model.samples)
        converted = convert(original, given, Path(scratch))
        as_graph = msgspec.structs.replace(model, path=converted.file, framework="onnx")
        manifest = _pack(as_graph, image, blobs, folder, step)
        samples = samples_file.decode((folder / FILES / _SAMPLES).read_bytes())
        asked = tuple(Request(name=one.name, body=one.body) for one in samples.samples)
        step("asking the original", 0, 0)
        originals = answers(original, converted, asked, check_onnx(converted.file).inputs or ())
        apart = largest_difference(samples, originals, converted)
    made = {
        CONVERTED_FROM: converted.library,
        "converted_by": converted.made_by,
        LARGEST_DIFFERENCE: f"{apart:.3g}",
    }
    return msgspec.structs.replace(manifest, properties=made | manifest.properties)


def _original(model: Model) -> Original | None:
    """The model as another library saved it; None where it is a graph already, or a script opens it."""
    framework = model.framework or framework_of(model.path)
    if model.entry_script is not None or model.serve is not None or framework == "onnx":
        return None
    if model.prove == "ready-only":
        raise Invalid(
            "a converted model is compared with its original, so there are samples",
            element="--prove ready-only",
            remedy="leave it out",
        )
    return Original(
        path=model.path, framework=framework, python=model.converter, signature=model.signature,
        trusted=model.trusted_pickle,
    )  # fmt: skip


def _pack(model: Model, image: Image | None, blobs: Path, folder: Path, step: Step) -> Manifest:
    """As :func:`prepare`, for what the scoring server serves as it is."""
    serve, sources = _sources(model)
    requests = _requests(model)
    pack.copy_in(sources, folder, step)
    runtime = Runtime(image=sized(image, blobs), platform=read_config(image, blobs).platform) if image else Runtime()
    unproved = Manifest(
        team=model.team,
        name=model.name,
        version=_UNNUMBERED,
        serve=serve,
        files=pack.measure_files(folder, step),
        runtimes=(runtime,),
        needs=_needs(model),
        proof=_proof(model),
        adjustable=model.adjustable,
        fallback_hosts=model.fallback_hosts,
        opaque_files=_opaque(sources) if isinstance(serve, EntryScript) else (),
        description=model.description,
        tags=model.tags,
        properties=model.properties,
        # A manifest without the field is what agents of before read.
        confidential=True if model.confidential else msgspec.UNSET,
        secrets=model.secrets or msgspec.UNSET,
        data=model.data or msgspec.UNSET,
    )
    pack.write_manifest(unproved, folder)
    step("starting the scoring server", 0, 0)
    with _graphs_explained(serve, sources), _scorer(model, image, blobs, folder, step) as scorer:
        if requests is None and isinstance(serve, EntryScript):
            requests = (script_request(scorer.http),)
        if requests is not None and not requests:
            return unproved
        samples = references.compute(requests, scorer, step) if requests else _made_up(scorer, step)
        needs = _needs(model, scorer, samples)
    (folder / FILES / _SAMPLES).write_bytes(_written(samples))
    proof = msgspec.structs.replace(unproved.proof, prove=model.prove, samples=_SAMPLES)
    return msgspec.structs.replace(unproved, files=pack.measure_files(folder, step), proof=proof, needs=needs)


def _made_up(scorer: Scorer, step: Step) -> samples_file.Samples:
    """Samples made up for a graph: fewer, and of shorter numbers, until devices take them and their answers."""
    for count, decimals in _SMALLER[:-1]:
        requests = graph_requests(scorer.http, count=count, decimals=decimals)
        if sum(len(one.body) for one in requests) * _BASE64 > samples_file.LIMIT:
            continue
        samples = references.compute(requests, scorer, step)
        if len(samples_file.encode(samples)) <= samples_file.LIMIT:
            return samples
    count, decimals = _SMALLER[-1]
    return references.compute(graph_requests(scorer.http, count=count, decimals=decimals), scorer, step)


def _written(samples: samples_file.Samples) -> bytes:
    """The samples as devices read them.

    Raises:
        Invalid: they are more than a device reads.
    """
    data = samples_file.encode(samples)
    if len(data) > samples_file.LIMIT:
        raise Invalid(
            f"requests and answers take {len(data) >> 20} MiB, and devices read up to {samples_file.LIMIT >> 20}",
            element="sample",
            remedy="give fewer or smaller ones: --sample FILE.json; or go without: --prove ready-only",
        )
    return data


@contextmanager
def _graphs_explained(serve: Serve, sources: pack.Sources) -> Iterator[None]:
    """Add to the server's reason for not starting what ONNX's own checker has against the graphs."""
    try:
        yield
    except NotReady as error:
        if isinstance(serve, EntryScript):
            raise
        graphs = [file for path, file in sources.items() if path.endswith(_GRAPHS)]
        says = "".join(f"\nONNX's checker says: {why}" for file in graphs if (why := checker_says(file)))
        raise NotReady(error.message + says, element=error.element, remedy=EXPORT) from error


def _sources(model: Model) -> tuple[Serve, pack.Sources]:
    """What serves, and which files go where."""
    if model.serve is not None:
        if model.entry_script or model.source_dir:
            raise Invalid(
                "an entry script, and a declaration of graphs", element="--serve", remedy="keep one of the two"
            )
        declared = read_serve(model.serve, model.path)
        return declared.serve, pack.class_sources(model.path) | declared.sources
    if model.entry_script is None:
        if model.source_dir is not None:
            raise Invalid(
                "a source folder without an entry script", element="--source-dir", remedy="add --entry-script"
            )
        graph = check_onnx(_onnx_file(model.path))
        return OnnxGraph(file=pack.graph_path(graph.file.name)), pack.class_sources(model.path) | pack.graph_sources(
            graph
        )
    folder = model.source_dir or model.entry_script.parent
    script = model.entry_script if model.source_dir is None else folder / model.entry_script
    if not script.is_file() or not script.resolve().is_relative_to(folder.resolve()):
        raise Invalid(
            "there is no such entry script in the source folder",
            element=str(script),
            remedy="name it by its path below --source-dir",
        )
    name = module_path(f"{pack.SOURCE}/{script.resolve().relative_to(folder.resolve()).as_posix()}")
    source = pack.folder_sources(folder, pack.SOURCE) if model.source_dir else {name: script}
    return EntryScript(script=name), pack.model_sources(model.path) | source


def _onnx_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(file for ending in _GRAPHS for file in path.rglob(f"*{ending}"))
    if len(found) != 1:
        raise Invalid(
            f"{len(found)} ONNX files in the folder, and no entry script to choose",
            element=str(path),
            remedy="name the ONNX file itself, or add --entry-script",
        )
    return found[0]


def _requests(model: Model) -> tuple[Request, ...] | None:
    """The sample requests; none where no proof is wanted, None where the scoring server is to be asked for some."""
    if model.samples:
        requests = tuple(read_request(file) for file in model.samples)
        if len({request.name for request in requests}) != len(requests):
            raise Invalid("two samples have the same file name", element="--sample", remedy="rename one")
        return requests
    return () if model.prove == "ready-only" else None


def _needs(model: Model, scorer: Scorer | None = None, samples: samples_file.Samples | None = None) -> Needs:
    """The memory that the user says; else what its container took, half as much again, and room for each sample."""
    if model.memory_mb:
        return Needs(memory_mb=model.memory_mb)
    if not isinstance(scorer, ContainerScorer):
        return Needs()
    largest = max((len(one.body) for one in samples.samples), default=0) if samples else 0
    return Needs(memory_mb=max(Needs().memory_mb, memory_mb(scorer.memory(), largest)))


def memory_mb(used: int, largest: int) -> int:
    """The MiB to grant to a scoring server that has ``used`` so many bytes, and is asked ``largest`` ones of JSON."""
    steps = math.ceil(max(used * _HEADROOM, used + largest * _MEMORY_PER_BYTE) / _MEMORY_STEP)
    return steps * _MEMORY_STEP >> 20


def _proof(model: Model) -> Proof:
    proof = Proof(prove="ready-only", limits=Limits(memory_mb=model.memory_mb))
    if model.probation_s is None:
        return proof
    return msgspec.structs.replace(proof, probation_s=model.probation_s)


def _opaque(sources: pack.Sources) -> tuple[str, ...]:
    """The files that only the entry script opens: the model's, and what lies beside the code."""
    return tuple(sorted(path for path in sources if not (path.startswith(f"{pack.SOURCE}/") and path.endswith(".py"))))


def _scorer(model: Model, image: Image | None, blobs: Path, folder: Path, step: Step) -> AbstractContextManager[Scorer]:
    if model.engine == "docker" and image is not None:
        return container_scorer(folder, image, blobs, memory_mb=model.memory_mb, step=step)
    return process_scorer(folder, interpreter=model.interpreter)
