"""What a module is: its files and images by digest, what it serves, what it needs, and how it proves its health.

A manifest is one JSON document of at most 1 MiB. The publisher signs its bytes; nobody changes them afterwards.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Final, Literal

import msgspec

from modules import canonical
from modules.bounds import LONGEST_S, Cores, Line, Mebibytes, Real, SecretName, Text, Word
from modules.data_rule import DataRule
from modules.digests import MAX_LENGTH, Blob
from modules.errors import Invalid
from modules.names import Digest, ModuleRef, SlugField, Version, module_path, slug
from modules.settable import ADJUSTABLE_NAMES, Adjustable, check_setting

FORMAT: Final = "edgefleet.module/1"
LIMIT: Final = 1 << 20
MAX_FILES: Final = 10_000
MAX_MODELS: Final = 256
MAX_SECRETS: Final = 16

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=LONGEST_S)]
Providers = Annotated[tuple[Word, ...], msgspec.Meta(max_length=32)]
Names = Annotated[dict[Line, Text], msgspec.Meta(max_length=1000)]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every part of a manifest: immutable, and strict about what it does not know."""


class File(Blob, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plain file of the module, at ``path`` inside its folder."""

    path: Line


class Image(_Part, frozen=True, kw_only=True):
    """A container image by its own digests; ``name`` is for people and decides nothing.

    ``manifest`` is the OCI image manifest, ``config`` its configuration, ``layers`` the layer blobs as they are stored
    and moved, in order from the lowest. ``unpacked_bytes`` is what they take of an engine's disk, as
    :func:`modules.unpacked.unpacked` counts it: a device plans with it, and unpacks no more. Publishers of before did
    not say it.
    """

    name: Line
    manifest: Blob
    config: Blob
    layers: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=256)]
    unpacked_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_LENGTH)] | msgspec.UnsetType = msgspec.UNSET


class Runtime(_Part, frozen=True, kw_only=True):
    """One way to run the module: on this platform and accelerator, with these providers, in this image.

    ``providers`` are ONNX Runtime execution providers in order of preference; the first that the host offers must be
    the one in use. Without an ``image`` only the ``process`` engine can run the module.
    """

    platform: Word = "linux/amd64"
    accelerator: Word = "cpu"
    providers: Providers = ("CPUExecutionProvider",)
    image: Image | None = None


class ImageInput(_Part, frozen=True, kw_only=True):
    """How a posted image becomes the only input of a graph.

    It is turned as its camera held it, brought to ``width`` and ``height`` (``stretch``; ``crop`` what is too much in
    the middle; ``pad`` with black what is missing around it) and to ``channels``. Each value, 0 to 255, becomes
    ``(value * scale - mean) / std`` of its channel, for graphs that take integers without that.
    """

    width: Annotated[int, msgspec.Meta(ge=1, le=8192)]
    height: Annotated[int, msgspec.Meta(ge=1, le=8192)]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    resize: Literal["stretch", "crop", "pad"] = "stretch"
    scale: Positive = 1 / 255
    mean: Annotated[tuple[Real, ...], msgspec.Meta(max_length=4)] = (0.0,)
    std: Annotated[tuple[Positive, ...], msgspec.Meta(max_length=4)] = (1.0,)


class OnnxGraph(_Part, frozen=True, kw_only=True, tag="onnx", tag_field="kind"):
    """A graph that is served without code; ``file`` is its path in the module. With ``image`` it takes images too."""

    file: Line
    image: ImageInput | msgspec.UnsetType = msgspec.UNSET


class Step(_Part, frozen=True, kw_only=True):
    """One model of a pipeline. ``inputs`` says where each of its inputs comes from.

    ``input.NAME`` is an input of the pipeline, ``MODEL.NAME`` an output of an earlier step.
    """

    model: SlugField
    inputs: Annotated[dict[Line, Line], msgspec.Meta(max_length=1000)]


class Pipeline(_Part, frozen=True, kw_only=True, tag="pipeline", tag_field="kind"):
    """Models one after another; its outputs are those of the last."""

    steps: Annotated[tuple[Step, ...], msgspec.Meta(max_length=MAX_MODELS)]


class Ensemble(_Part, frozen=True, kw_only=True, tag="ensemble", tag_field="kind"):
    """Models that are all asked the same, their answers averaged: every numeric output, element by element."""

    models: Annotated[tuple[SlugField, ...], msgspec.Meta(max_length=MAX_MODELS)]
    weights: Annotated[tuple[Positive, ...], msgspec.Meta(max_length=MAX_MODELS)] = ()


class ModelSet(_Part, frozen=True, kw_only=True, tag="models", tag_field="kind"):
    """Several models in one module. ``/score`` asks ``main``; the others are below ``/v2/models``.

    With a ``memory_mb`` above 0 graphs are loaded when they are asked for, and those asked longest ago are unloaded
    where they would take more together.
    """

    models: Annotated[dict[Line, OnnxGraph | Pipeline | Ensemble], msgspec.Meta(max_length=MAX_MODELS)]
    main: SlugField
    memory_mb: Mebibytes = 0


class EntryScript(_Part, frozen=True, kw_only=True, tag="entry-script", tag_field="kind"):
    """A script with ``init()`` and ``run(data)``.

    ``script`` is its path in the module, below the folder ``source``; ``source`` goes first on ``sys.path``.
    ``model_dir`` is the folder of the module that ``AZUREML_MODEL_DIR`` names.
    """

    script: Line
    source: Line = "source"
    model_dir: Line = "model"


class Needs(_Part, frozen=True, kw_only=True):
    """What a host must have, beside a runtime for its platform. Memory and disk in MiB, CPU in cores."""

    memory_mb: Mebibytes = 128
    disk_mb: Mebibytes = 0
    cpu_cores: Cores = 0.0


class Limits(_Part, frozen=True, kw_only=True):
    """Bounds of the proof. ``latency_ms`` bounds the median sample, ``memory_mb`` the container."""

    latency_ms: Positive | None = None
    memory_mb: Annotated[int, msgspec.Meta(ge=16, le=1 << 33)] | None = None
    cpu_cores: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None


class Proof(_Part, frozen=True, kw_only=True):
    """How a device decides that the module works.

    With ``prove = "samples"`` every sample in the file ``samples`` must give its reference answer; ``"ready-only"``
    asks for readiness alone, and every report then says "unproved".
    """

    prove: Literal["samples", "ready-only"] = "samples"
    samples: Line = "samples.json"
    ready_within_s: Annotated[float, msgspec.Meta(gt=0, le=LONGEST_S)] = 60.0
    probation_s: Seconds = 300.0
    limits: Limits = Limits()


class SecretFile(_Part, frozen=True, kw_only=True):
    """A secret that the module reads from the file of this name.

    Without a ``required`` one it does not start. ``reload`` is what a new value takes: ``restart``; nothing but the
    ``file``, where the module reads that anew; or a ``signal``, SIGHUP for its main process, which reads it then.
    """

    name: SecretName
    required: bool = True
    reload: Literal["restart", "file", "signal"] = "restart"


class Manifest(_Part, frozen=True, kw_only=True):
    """One version of a model, ready to run. ``opaque_files`` are paths that only the entry script opens.

    What is ``confidential`` never goes over a topic that every device may read; ``secrets`` are the files that it is
    given; ``data`` says where what it is asked with may go. Only
    manifests that need them have these fields: agents of before know them not, and refuse.
    """

    format: Literal["edgefleet.module/1"] = FORMAT
    team: SlugField
    name: SlugField
    version: Word
    serve: OnnxGraph | EntryScript | ModelSet
    files: Annotated[tuple[File, ...], msgspec.Meta(max_length=MAX_FILES)]
    runtimes: Annotated[tuple[Runtime, ...], msgspec.Meta(max_length=64)]
    needs: Needs = Needs()
    proof: Proof = Proof()
    adjustable: Annotated[dict[Word, Adjustable], msgspec.Meta(max_length=16)] = {}
    fallback_hosts: Annotated[tuple[Line, ...], msgspec.Meta(max_length=64)] = ()
    opaque_files: Annotated[tuple[Line, ...], msgspec.Meta(max_length=MAX_FILES)] = ()
    description: Text = ""
    tags: Names = {}
    properties: Names = {}
    confidential: bool | msgspec.UnsetType = msgspec.UNSET
    secrets: Annotated[tuple[SecretFile, ...], msgspec.Meta(max_length=MAX_SECRETS)] | msgspec.UnsetType = msgspec.UNSET
    data: DataRule | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_confidential(self) -> bool:
        return self.confidential is True

    @property
    def declared(self) -> dict[str, SecretFile]:
        """The secrets that it may be given, by name."""
        return {one.name: one for one in self.secrets or ()}

    @property
    def ref(self) -> ModuleRef:
        return ModuleRef(self.team, self.name, Version.parse(self.version))

    def file(self, path: str) -> File:
        """The entry of one file.

        Raises:
            Invalid: the module has no such file.
        """
        for entry in self.files:
            if entry.path == path:
                return entry
        raise Invalid("the module has no such file", element=path)


def named_blobs(manifest: Manifest) -> Iterable[Blob]:
    """Every blob that a device may have to pull for a module."""
    yield from manifest.files
    for runtime in manifest.runtimes:
        if runtime.image is not None:
            yield runtime.image.manifest
            yield runtime.image.config
            yield from runtime.image.layers


def encode(manifest: Manifest) -> bytes:
    """The bytes that are signed; checks the manifest first.

    Raises:
        Invalid: as :func:`decode`.
    """
    data = canonical.encode(manifest)
    decode(data)
    return data


def decode(data: bytes) -> Manifest:
    """Read and check a manifest.

    Raises:
        Invalid: unknown fields, a tag where a digest must stand, paths that leave the module or repeat, a digest of two
            lengths, or references to files that are not listed. The message names the field.
    """
    manifest = canonical.decode(data, Manifest, limit=LIMIT, what="manifest")
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    Version.parse(manifest.version)
    _check_files(manifest)
    _check_references(manifest)
    if not manifest.runtimes:
        raise Invalid("there is no runtime, so nothing could run it", element="runtimes")
    if len(manifest.declared) != len(manifest.secrets or ()):
        raise Invalid("two secrets have the same name", element="secrets")
    if manifest.data:
        manifest.data.check_hosts(manifest.fallback_hosts)
    for name, setting in manifest.adjustable.items():
        if name not in ADJUSTABLE_NAMES:
            raise Invalid(
                "this setting can never be adjustable",
                element=f"adjustable.{name}",
                remedy=f"choose among {', '.join(sorted(ADJUSTABLE_NAMES))}",
            )
        check_setting(name, setting, setting.default)


def _check_files(manifest: Manifest) -> None:
    paths = {module_path(entry.path).casefold() for entry in manifest.files}
    if len(paths) != len(manifest.files):
        raise Invalid("two files have the same path (letters' case aside)", element="files")
    # In this order, whatever lies below a file comes right after it.
    for above, path in pairwise(sorted(path.split("/") for path in paths)):
        if path[: len(above)] == above:
            raise Invalid("a file lies below another file", element="/".join(path))
    known: dict[Digest, Blob] = {}
    for blob in named_blobs(manifest):
        first = known.setdefault(blob.sha256, blob)
        if (blob.length, blob.blocks) != (first.length, first.blocks):
            # No bytes could be both, so it would be fetched for ever.
            raise Invalid("it is named twice, with another length or another block index", element=blob.sha256)


def _check_references(manifest: Manifest) -> None:
    serve = manifest.serve
    if isinstance(serve, OnnxGraph):
        _check_graph(manifest, serve)
    elif isinstance(serve, ModelSet):
        _check_set(manifest, serve)
    else:
        manifest.file(serve.script)
        module_path(serve.model_dir)
        if not serve.script.startswith(module_path(serve.source) + "/"):
            raise Invalid(
                f"the script is not below {serve.source}", element=serve.script, remedy=f"move it into {serve.source}"
            )
    if manifest.proof.prove == "samples":
        manifest.file(manifest.proof.samples)
    for path in sorted(set(manifest.opaque_files) - {entry.path for entry in manifest.files}):
        manifest.file(path)  # which says that it is not there


def _check_graph(manifest: Manifest, graph: OnnxGraph) -> None:
    manifest.file(graph.file)
    if isinstance(graph.image, ImageInput):
        for name in ("mean", "std"):
            count = 1 if graph.image.channels == "L" else 3
            if len(getattr(graph.image, name)) not in {1, count}:
                raise Invalid(f"one value or {count} for {graph.image.channels}", element=f"image.{name}")


def _check_set(manifest: Manifest, several: ModelSet) -> None:
    graphs = {name: one for name, one in several.models.items() if isinstance(one, OnnxGraph)}
    for name, one in several.models.items():
        element = f"serve.models.{name}"
        slug(name, what=element)
        if isinstance(one, OnnxGraph):
            _check_graph(manifest, one)
            continue
        members = [step.model for step in one.steps] if isinstance(one, Pipeline) else list(one.models)
        if not members:
            raise Invalid("there is no model in it", element=element)
        for member in members:
            if member not in graphs:
                raise Invalid(f"{member} is not a graph of this module", element=element)
        if isinstance(one, Ensemble) and len(one.weights) not in {0, len(members)}:
            raise Invalid(f"one weight for each of the {len(members)} models, or none", element=f"{element}.weights")
        if isinstance(one, Pipeline):
            _check_steps(one, element)
    if several.main not in several.models:
        raise Invalid("there is no such model in the module", element="serve.main")


def _check_steps(pipeline: Pipeline, element: str) -> None:
    """Each step once, fed by the pipeline's inputs and earlier steps."""
    known = {"input"}
    for step in pipeline.steps:
        if step.model in known:
            raise Invalid(f"{step.model} stands in it twice, or is called input", element=element)
        for source in step.inputs.values():
            model, dot, name = source.partition(".")
            if model not in known or not dot or not name:
                raise Invalid(f"{source!r} is neither input.NAME nor an earlier step's MODEL.NAME", element=element)
        known.add(step.model)
