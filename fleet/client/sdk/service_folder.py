"""What a local service is made of, laid out on this machine as the container sees it, and the image that it runs in.

A script finds its models as in Azure ML: ``AZUREML_MODEL_DIR`` is ``azureml-models/NAME/VERSION`` below the root of the
application, or with several models the folder above. A graph is served from the module that was registered.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.client.environments.inference_config import InferenceConfig
from fleet.client.images.image_build import SCORING, build_image
from fleet.client.images.store import take
from fleet.client.local.containers import MODULE_MOUNT, held_image
from fleet.client.models.conversion import Framework
from fleet.client.publishing import pack
from fleet.client.publishing.register import Model as Wanted
from fleet.client.publishing.register import prepare
from fleet.client.publishing.register_files import is_only_files
from fleet.client.screen import Screen, Step
from fleet.client.sdk import registry
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.model_version import ModelVersion
from fleet.client.workspace import FILES, MANIFEST, SCORING_IMAGE
from modules import manifest as manifests
from modules.errors import Invalid
from modules.manifest import Image, Manifest
from modules.names import Slug

ROOT: Final = "/var/azureml-app"
MODELS: Final = "azureml-models"
TRUSTED_PICKLE: Final = "EDGEFLEET_TRUSTED_PICKLE"


def trusts_pickles() -> bool:
    """Whether this user lets pickles be opened."""
    return os.environ.get(TRUSTED_PICKLE, "") in {"1", "true", "yes"}


_SOURCE: Final = pack.SOURCE
LIBRARIES: Final[dict[str, Framework]] = {"ScikitLearn": "sklearn", "TensorFlow": "tensorflow"}


class Laid(msgspec.Struct, frozen=True, kw_only=True):
    """How the laid out files are served: arguments of the scoring server, its variables and mounts, and the image."""

    image: str
    command: tuple[str, ...] = ()
    variables: Mapping[str, str] = {}
    mounts: Mapping[str, Path]


def place(workspace: Connection, name: Slug) -> Path:
    """Where a service's files are; each fleet server has its own."""
    fleet = hashlib.sha256(workspace.url.encode()).hexdigest()[:16]
    return workspace.home / "services" / fleet / name


@contextmanager
def fresh_folder(workspace: Connection, name: Slug) -> Iterator[Path]:
    """A folder of its own for each time that a service is made; gone again if that fails."""
    above = place(workspace, name)
    above.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=above))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def with_script(
    workspace: Connection,
    engine: Any,
    folder: Path,
    models: Sequence[ModelVersion],
    config: InferenceConfig,
    step: Step,
    *,
    image: str = "",
) -> Laid:
    """Models for a script, which is copied; without an image that of its environment, built if need be.

    Raises:
        EdgefleetError: as the services that it calls.
    """
    if config.environment is not None:
        image = config.environment.build_image(client=engine, progress=print).image_id
    image = image or scoring_image(workspace, engine, step)
    return Laid(image=image, variables=lay_script(workspace, folder, models, config, step), mounts={ROOT: folder})


def lay_script(
    workspace: Connection, folder: Path, models: Sequence[ModelVersion], config: InferenceConfig, step: Step
) -> dict[str, str]:
    """Models and a copy of the script, below the root of the application; returns the variables that name them.

    Raises:
        EdgefleetError: as the services that it calls.
    """
    for model in models:
        with workspace.packed.staging() as packed:
            _fetch(workspace, model, packed, step)
            target = folder / MODELS / model.name / str(model.version)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(packed / FILES / pack.MODEL, target)
    script = copy_source(folder, config)
    only = models[0] if len(models) == 1 else None
    variables = {
        "AML_APP_ROOT": ROOT,
        "AZUREML_SOURCE_DIRECTORY": _SOURCE,
        "AZUREML_ENTRY_SCRIPT": script,
        "AZUREML_MODEL_DIR": f"{MODELS}/{only.name}/{only.version}" if only else MODELS,
    }
    (folder / MODELS).mkdir(exist_ok=True)
    return variables


def copy_source(folder: Path, config: InferenceConfig) -> str:
    """Copy the script, or its whole source folder, again; returns its path below the copy.

    Raises:
        Invalid: it is not there, or has a file that no module could have.
    """
    script, above = config.entry_script, config.source_dir
    file = above / script if above else script
    if not file.is_file() or (above and not file.resolve().is_relative_to(above.resolve())):
        raise Invalid(
            "there is no such entry script", element=str(file), remedy="correct entry_script, below source_directory"
        )
    sources = pack.folder_sources(above, _SOURCE) if above else {f"{_SOURCE}/{file.name}": file}
    fresh = folder / f"{_SOURCE}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    for name, path in sources.items():
        target = fresh / Path(name).relative_to(_SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.rmtree(folder / _SOURCE, ignore_errors=True)
    fresh.rename(folder / _SOURCE)
    return file.resolve().relative_to(above.resolve()).as_posix() if above else file.name


def without_code(workspace: Connection, engine: Any, folder: Path, model: ModelVersion, step: Step) -> Laid:
    """A model that needs no script: a registered graph as it is; one of a library that we convert, converted here.

    Raises:
        Invalid: it needs a script; or its library's pickle is not trusted.
        EdgefleetError: as the services that it calls.
    """
    _fetch(workspace, model, folder, step)
    manifest = manifests.decode((folder / MANIFEST).read_bytes())
    if not is_only_files(manifest):
        return Laid(
            image=_image_of(manifest, workspace, engine, step), command=("--module", MODULE_MOUNT),
            mounts={MODULE_MOUNT: folder},
        )  # fmt: skip
    framework = LIBRARIES.get(model.model_framework or "")
    if framework is None:
        raise Invalid(
            "only a script can open this model",
            element=model.id,
            remedy="give an InferenceConfig; or register it as what it is: model_framework=Model.Framework.ONNX",
        )
    inside = list((folder / FILES / pack.MODEL).iterdir())
    wanted = Wanted(
        path=inside[0], team=model.ref.team, name=model.ref.name, framework=framework,
        trusted_pickle=trusts_pickles(),
    )  # fmt: skip
    image = _workspace_image(workspace, engine, step)
    with tempfile.TemporaryDirectory(prefix="edgefleet-service-", dir=folder.parent) as scratch:
        converted = prepare(wanted, image, workspace.packed.blobs, Path(scratch), step)
        pack.write_manifest(converted, Path(scratch))
        shutil.rmtree(folder / FILES)
        shutil.copytree(scratch, folder, dirs_exist_ok=True)
    return Laid(
        image=held_image(engine, image, workspace.packed.blobs, step), command=("--module", MODULE_MOUNT),
        mounts={MODULE_MOUNT: folder},
    )  # fmt: skip


def _fetch(workspace: Connection, model: ModelVersion, folder: Path, step: Step) -> None:
    with workspace.fleet() as fleet:
        registry.as_packed(workspace, fleet, model.ref, folder, step)


def _image_of(manifest: Manifest, workspace: Connection, engine: Any, step: Step) -> str:
    """The image that the module was proved in, where the workspace has it."""
    wanted = {one.image.manifest.sha256 for one in manifest.runtimes if one.image is not None}
    for image in workspace.packed.images():
        if image.manifest.sha256 in wanted:
            return held_image(engine, image, workspace.packed.blobs, step)
    return scoring_image(workspace, engine, step)


def scoring_image(workspace: Connection, engine: Any, step: Step) -> str:
    """The id of the image that the workspace's modules run in; without one it is built, and stays in the engine."""
    packed = workspace.packed
    if packed.images():
        return held_image(engine, packed.image(None), packed.blobs, step)
    return build_image(SCORING, client=engine, name=SCORING_IMAGE, progress=Screen(as_json=False).remark)


def _workspace_image(workspace: Connection, engine: Any, step: Step) -> Image:
    packed = workspace.packed
    if packed.images():
        return packed.image(None)
    made = build_image(SCORING, client=engine, name=SCORING_IMAGE, progress=Screen(as_json=False).remark)
    return take(engine, made, packed, step, SCORING_IMAGE)
