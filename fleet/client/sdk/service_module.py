"""The module that a service elsewhere runs: models, script and environment in one, signed like any other."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from fleet.client.environments.inference_config import InferenceConfig as Resolved
from fleet.client.environments.store import build_environment
from fleet.client.images.store import build as build_image
from fleet.client.publishing import pack
from fleet.client.publishing.register import Model as Wanted
from fleet.client.publishing.register import register
from fleet.client.publishing.register_files import is_only_files
from fleet.client.screen import Screen, Step
from fleet.client.sdk import registry
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import UserErrorException
from fleet.client.sdk.model_version import ModelVersion
from fleet.client.sdk.service_folder import LIBRARIES, trusts_pickles
from fleet.client.signing.sign import sign
from fleet.client.workspace import FILES, SCORING_IMAGE
from modules.errors import Invalid
from modules.names import ModuleRef, Slug

# Properties of such a module: the models that are in it.
MODELS: Final = f"{registry.OWN}models"
_EXAMPLE: Final = "/swagger.json"


def module_of(
    workspace: Connection, name: Slug, models: Sequence[ModelVersion], config: Resolved | None, step: Step
) -> ModuleRef:
    """The signed module: the only model as it was registered, or a new one with its script, under the service's name.

    Raises:
        UserErrorException: several models without a script; one that only a script can open; nobody signs it.
        EdgefleetError: as the services that it calls.
    """
    if config is None and (registered := as_registered(workspace, models)) is not None:
        return registered
    with workspace.fleet() as fleet, tempfile.TemporaryDirectory(prefix="edgefleet-service-") as scratch:
        team = workspace.team(fleet)
        signers = workspace.signers(team)
        if not signers:
            raise UserErrorException(
                "a service needs a signed module, and nothing says where the team's key is",
                element=str(name),
                remedy='write "keys" into the workspace\'s file, or set EDGEFLEET_KEYS',
            )
        wanted = Wanted(
            path=laid(workspace, models, Path(scratch), step, alone=config is None),
            team=team,
            name=name,
            entry_script=config.entry_script if config else None,
            source_dir=config.source_dir if config else None,
            image=image_of(workspace, config, step),
            framework=None if config else LIBRARIES[models[0].model_framework or ""],
            trusted_pickle=trusts_pickles(),
            properties={MODELS: ",".join(str(one.ref) for one in models)},
        )
        try:
            done = register(wanted, fleet, workspace.packed, step)
        except Invalid as error:
            if error.element != _EXAMPLE:
                raise
            Screen(as_json=False).remark("the script declares no sample input, so no replica will have to prove itself")
            done = register(msgspec.structs.replace(wanted, prove="ready-only"), fleet, workspace.packed, step)
        ref = done.manifest.ref
        sign(ref, signers=signers, fleet=fleet, trusted=workspace.trusted(fleet), workspace=workspace.packed, step=step)
        return ref


def as_registered(workspace: Connection, models: Sequence[ModelVersion]) -> ModuleRef | None:
    """The module that needs no script; None where it is one that we convert."""
    if len(models) != 1:
        raise UserErrorException(
            f"{len(models)} models, and nothing says how they are served",
            element="inference_config",
            remedy="give an InferenceConfig, or a single model that is served without code",
        )
    (model,) = models
    with workspace.fleet() as fleet:
        if not is_only_files(registry.manifest_of(fleet.module(model.ref))):
            return model.ref
        if model.model_framework not in LIBRARIES:
            raise UserErrorException(
                "only a script can open this model",
                element=model.id,
                remedy="give an InferenceConfig; or register it as what it is: model_framework=Model.Framework.ONNX",
            )
    return None


def laid(workspace: Connection, models: Sequence[ModelVersion], scratch: Path, step: Step, *, alone: bool) -> Path:
    """The models' files as a script finds them: a single one's own, several below NAME/VERSION.

    ``alone``: what a single model's folder holds, as its own library saved it.
    """
    for model in models:
        packed = scratch / "packed"
        with workspace.fleet() as fleet:
            registry.as_packed(workspace, fleet, model.ref, packed, step)
        target = scratch / "models" / ("" if len(models) == 1 else f"{model.name}/{model.version}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(packed / FILES / pack.MODEL, target)
        shutil.rmtree(packed)
    if not models:
        # A script alone: a module's model folder has at least one file.
        (scratch / "models").mkdir()
        (scratch / "models" / "none").write_text("this service has no model\n")
    if alone:
        (only,) = (scratch / "models").iterdir()
        return only
    return scratch / "models"


def image_of(workspace: Connection, config: Resolved | None, step: Step) -> str:
    packed, screen = workspace.packed, Screen(as_json=False)
    if config is not None and config.environment is not None:
        image, _ = build_environment(config.environment, packed, step, line=screen.remark)
        return image.name
    if not packed.images():
        build_image(SCORING_IMAGE, (), packed, step, line=screen.remark)
    return packed.image(None).name
