"""A local service made: all of it laid out first; only then does what was there before make room."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fleet.client.environments.inference_config import InferenceConfig as Resolved
from fleet.client.images.docker_engine import docker_engine
from fleet.client.local import service as services
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import UserErrorException
from fleet.client.sdk.model_version import ModelVersion
from fleet.client.sdk.service_folder import Laid, fresh_folder, with_script, without_code
from modules.names import Slug

# What a service may take where its models do not say.
MEMORY_MB: Final = 4096
_LEAST_MB: Final = 64
_MB_PER_GB: Final = 1024


def make(
    workspace: Connection,
    name: Slug,
    models: Sequence[ModelVersion],
    config: Resolved | None,
    port: int,
    *,
    image: str = "",
) -> None:
    """Start a service of this name in place of any that is there; without an image in that of its environment.

    Raises:
        UserErrorException: several models, or none, without a script.
        EdgefleetError: as the services that it calls.
    """
    if config is None and len(models) != 1:
        raise UserErrorException(
            f"{len(models)} models, and nothing says how they are served",
            element="inference_config",
            remedy="give an InferenceConfig, or a single model that is served without code",
        )
    with docker_engine() as engine, workspace.progress() as step, fresh_folder(workspace, name) as folder:
        if config is None:
            laid = without_code(workspace, engine, folder, models[0], step)
        else:
            laid = with_script(workspace, engine, folder, models, config, step, image=image)
        with services.every(engine, workspace.url, name) as before:
            if port not in {one.port for one in before}:
                services.expect_free(port)
            for one in before:
                one.remove()
                shutil.rmtree(one.record["folder"], ignore_errors=True)
        started = services.start(engine, _plan(workspace, name, models, config, laid, folder, port))
        started.http.close()


def _plan(
    workspace: Connection,
    name: Slug,
    models: Sequence[ModelVersion],
    config: Resolved | None,
    laid: Laid,
    folder: Path,
    port: int,
) -> services.Plan:
    limits = [one.resource_configuration for one in models if one.resource_configuration]
    memory = sum(one.memory_in_gb or 0 for one in limits) * _MB_PER_GB
    cpus = max((one.cpu or 0 for one in limits), default=0)
    record = {"models": [str(one.ref) for one in models], "image": laid.image, "folder": str(folder)}
    if config is not None:
        source = config.source_dir
        record |= {
            "entry_script": str(config.entry_script if source else config.entry_script.absolute()),
            "source_dir": str(source.absolute()) if source else "",
        }
    return services.Plan(
        name=name, owner=workspace.url, image=laid.image, command=laid.command, mounts=laid.mounts,
        variables=laid.variables, port=port, memory_mb=max(_LEAST_MB, round(memory)) if memory else MEMORY_MB,
        cpus=cpus or None, record=record,
    )  # fmt: skip


def recorded(record: dict[str, Any]) -> Resolved | None:
    """Where the script was, for a service that has one."""
    if "entry_script" not in record:
        return None
    source = record["source_dir"]
    return Resolved(entry_script=Path(record["entry_script"]), source_dir=Path(source) if source else None)
