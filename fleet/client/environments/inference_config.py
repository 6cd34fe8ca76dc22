"""Azure ML's ``inferenceconfig.json``, read as it is: which script, from which folder, in which environment."""

from pathlib import Path
from typing import Any

import msgspec

from fleet.client.environments.definition import FILE, read_definition, registry
from fleet.client.environments.docker_steps import read_steps
from fleet.client.environments.environment import DESCRIPTION, Environment
from modules.canonical import UNREADABLE
from modules.errors import Invalid

_LIMIT = 4 << 20


class InferenceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What it says: the script by its path below ``source_dir`` where there is one, and the environment, if any."""

    entry_script: Path
    source_dir: Path | None = None
    environment: Environment | None = None


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The keys of the first version; None is as good as not there."""

    entry_script: str
    source_directory: str | None = None
    runtime: str | None = None
    conda_file: str | None = None
    environment: str | dict[str, Any] | None = None
    extra_docker_file_steps: str | None = None
    extra_dockerfile_steps: str | None = None
    enable_gpu: bool | None = None
    cuda_version: str | None = None
    base_image: str | None = None
    base_image_registry: dict[str, Any] | None = None
    description: str | None = None


def read_inference_config(file: Path, *, name: str = "") -> InferenceConfig:
    """The file; ``name`` names the environment where the file does not.

    Paths in it are sought below ``sourceDirectory``, then beside the file, then from here.

    Raises:
        Invalid: it cannot be read, or a key asks for what cannot be had. The message names the key.
    """
    return resolve(_decode(file), where=str(file), folder=file.parent, name=name)


def resolve(
    found: Keys, *, where: str, folder: Path, name: str = "", made: Environment | None = None
) -> InferenceConfig:
    """The same for keys that are read already; ``made`` is an environment that no file names.

    Raises:
        Invalid: as :func:`read_inference_config`.
    """
    if found.runtime not in (None, "", "python"):
        raise Invalid(
            f"the runtime {found.runtime!r} is not here: scripts run in Python",
            element=f"{where}: runtime",
            remedy='write "runtime": "python", or leave it out',
        )
    if found.enable_gpu:
        raise Invalid(
            "no image for GPUs is built from this file",
            element=f"{where}: enableGpu",
            remedy="take enableGpu out and name an image with CUDA in baseImage, or serve an ONNX graph",
        )
    if found.cuda_version:
        raise Invalid(
            "a CUDA version has an effect only with a GPU", element=f"{where}: cudaVersion", remedy="take it out"
        )
    places = [folder, Path()]
    source = _below(found.source_directory, places, f"{where}: sourceDirectory") if found.source_directory else None
    places = [source, *places] if source else places
    script = Path(found.entry_script)
    if source is None:
        script = _below(found.entry_script, places, f"{where}: entryScript")
    environment = _environment(found, where, places, name, made)
    return InferenceConfig(entry_script=script, source_dir=source, environment=environment)


def _decode(file: Path) -> Keys:
    try:
        data = file.read_bytes()
        if len(data) > _LIMIT:
            raise Invalid(f"more than {_LIMIT} bytes", element=str(file))
        return msgspec.json.decode(data, type=Keys)
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", element=str(file)) from error
    except UNREADABLE as error:
        raise Invalid(
            f"this is not an inferenceconfig.json: {error}",
            element=str(file),
            remedy="its keys are entryScript, sourceDirectory, runtime, condaFile, environment, extraDockerfileSteps, "
            "enableGpu, cudaVersion, baseImage and baseImageRegistry",
        ) from error


def _environment(
    found: Keys, where: str, places: list[Path], name: str, made: Environment | None
) -> Environment | None:
    environment = made
    if (found.environment or made) and found.conda_file:
        raise Invalid("an environment and a conda file", element=f"{where}: condaFile", remedy="keep one of them")
    if isinstance(found.environment, dict):
        environment = read_definition(found.environment, where=f"{where}: environment", folder=places[-2], name=name)
    elif found.environment:
        environment = _named(found.environment, places)
    elif found.conda_file:
        path = _below(found.conda_file, places, f"{where}: condaFile")
        environment = Environment.from_conda_specification(name, path)
    steps = found.extra_dockerfile_steps or found.extra_docker_file_steps
    if environment is None and (found.base_image or steps):
        environment = Environment(name=name)
    if environment is None:
        if found.base_image_registry:
            raise Invalid("a registry without baseImage", element=f"{where}: baseImageRegistry", remedy="add baseImage")
        return None
    if found.base_image:
        environment = msgspec.structs.replace(
            environment,
            base_image=found.base_image,
            registry=registry(found.base_image_registry, f"{where}: baseImageRegistry"),
        )
    if steps:
        path = _below(steps, places, f"{where}: extraDockerfileSteps")
        environment = msgspec.structs.replace(environment, steps=read_steps(path))
    return environment


def _named(text: str, places: list[Path]) -> Environment:
    """A folder that an environment was saved to, by them or by us; else one that is kept here."""
    saved = (from_folder(place / text) for place in places)
    return next((one for one in saved if one), None) or Environment.get(text)


def from_folder(folder: Path) -> Environment | None:
    """The environment that they or we saved to a folder; None where there is none.

    Raises:
        Invalid: it was damaged, or asks for what cannot be had.
    """
    if (folder / DESCRIPTION).is_file():
        return Environment.load_from_directory(folder)
    theirs = folder / FILE
    if not theirs.is_file():
        return None
    try:
        document = msgspec.json.decode(theirs.read_bytes(), type=dict[str, Any])
    except UNREADABLE as error:
        raise Invalid(f"this is not an environment: {error}", element=str(theirs)) from error
    return read_definition(document, where=str(theirs), folder=folder)


def _below(text: str, places: list[Path], element: str) -> Path:
    for place in places:
        if (place / text).exists():
            return place / text
    tried = ", ".join(str(place.absolute()) for place in places)
    raise Invalid(f"{text!r} is in none of {tried}", element=element, remedy="correct the path")
