"""``InferenceConfig``: which script, from which folder, in which environment; in the form of 2019 or of 2020."""

import os
from pathlib import Path

from fleet.client.environments.inference_config import InferenceConfig as Resolved
from fleet.client.environments.inference_config import Keys, resolve
from fleet.client.sdk.environment import ContainerRegistry, Environment
from fleet.client.sdk.exceptions import UserErrorException

_PathLike = str | os.PathLike[str]


class InferenceConfig:
    """2019: ``runtime``, ``conda_file``, ``extra_docker_file_steps``; 2020: ``environment``. Paths as in Azure ML.

    Raises:
        UserErrorException: an environment that is none.
    """

    def __init__(
        self,
        entry_script: _PathLike,
        runtime: str | None = None,
        conda_file: _PathLike | None = None,
        extra_docker_file_steps: _PathLike | None = None,
        source_directory: _PathLike | None = None,
        enable_gpu: bool | None = None,
        description: str | None = None,
        base_image: str | None = None,
        base_image_registry: ContainerRegistry | None = None,
        cuda_version: str | None = None,
        environment: Environment | None = None,
    ) -> None:
        if environment is not None and not isinstance(environment, Environment):
            raise UserErrorException(
                f"{type(environment).__name__} is not an environment",
                element="environment",
                remedy="give an Environment of fleet.client.sdk",
            )
        self.entry_script, self.source_directory = str(entry_script), source_directory
        self.runtime, self.conda_file, self.environment = runtime, conda_file, environment
        self.extra_docker_file_steps, self.description = extra_docker_file_steps, description
        self.base_image, self.base_image_registry = base_image, base_image_registry
        self.enable_gpu, self.cuda_version = enable_gpu, cuda_version

    def resolved(self, name: str) -> Resolved:
        """The files that are there, and the environment, which gets ``name`` where it has none.

        Raises:
            Invalid: a path, a package or an argument that cannot be had; the message names it.
        """
        private = self.base_image_registry
        keys = Keys(
            entry_script=self.entry_script,
            source_directory=_text(self.source_directory),
            runtime=self.runtime,
            conda_file=_text(self.conda_file),
            extra_docker_file_steps=_text(self.extra_docker_file_steps),
            enable_gpu=self.enable_gpu,
            cuda_version=self.cuda_version,
            base_image=self.base_image,
            base_image_registry=(
                {"address": private.address, "username": private.username, "password": private.password}
                if private is not None
                else None
            ),
        )
        made = self.environment.kept() if self.environment else None
        return resolve(keys, where="InferenceConfig", folder=Path(), name=name, made=made)


def _text(path: _PathLike | None) -> str | None:
    return None if path is None else str(path)
