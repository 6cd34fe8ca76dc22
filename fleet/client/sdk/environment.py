"""``Environment``: what an entry script runs in, described in a script as Azure ML's is, built as ours is."""

import copy
import os
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import yaml

from fleet.client.environments.conda_file import read_conda
from fleet.client.environments.docker_steps import check_steps
from fleet.client.environments.environment import Environment as Kept
from fleet.client.environments.inference_config import from_folder
from fleet.client.images.base_image import Registry
from fleet.client.sdk.conda_dependencies import CondaDependencies
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.exceptions import UserErrorException, told_as

_FILE: Final = "conda_dependencies.yml"
_THEIRS: Final = "mcr.microsoft.com/azureml/"
# Of the environments that come with Azure ML, the one that has nothing of its own.
_MINIMAL: Final = "AzureML-Minimal"
PYTHON: Final = "EDGEFLEET_PYTHON"


class ContainerRegistry:
    """A private registry; the password is kept nowhere."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.username: str | None = None
        self.password: str | None = None


class PythonSection:
    """``environment.python``."""

    def __init__(self) -> None:
        self.conda_dependencies = CondaDependencies()
        self.user_managed_dependencies = False
        self.interpreter_path = "python"


class DockerSection:
    """``environment.docker``. Images are always built with Docker, so ``enabled`` only says what is so.

    Of ``base_dockerfile`` the steps are taken that need no file of this machine: RUN, ENV, ARG, LABEL.
    """

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.base_dockerfile: str | None = None
        self.base_image_registry = ContainerRegistry()
        self.gpu_support = False
        self.shm_size: str | None = None
        self.arguments: list[str] = []


class Environment:
    """A description that can be changed until it is used.

    Raises:
        UserErrorException: a file or a package that no image here could have; the message names it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.version: str | None = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.environment_variables: dict[str, str] = {}
        # Of theirs: our own server stands in every image.
        self.inferencing_stack_version: str | None = None

    @classmethod
    def from_conda_specification(cls, name: str, file_path: str | os.PathLike[str]) -> Self:
        """From conda's YAML file."""
        made = cls(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @classmethod
    def from_pip_requirements(
        cls, name: str, file_path: str | os.PathLike[str], pip_version: str | None = None
    ) -> Self:
        """From pip's ``requirements.txt``."""
        with told_as(UserErrorException):
            kept = Kept.from_requirements(name, Path(file_path))
        return cls._of(kept)

    @classmethod
    def from_docker_image(
        cls,
        name: str,
        image: str,
        container_registry: ContainerRegistry | None = None,
        conda_specification: str | os.PathLike[str] | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Upon an image of one's own, with packages of a file or with none."""
        if conda_specification is not None:
            made = cls.from_conda_specification(name, conda_specification)
        elif pip_requirements is not None:
            made = cls.from_pip_requirements(name, pip_requirements)
        else:
            made = cls(name)
        made.docker.base_image = image
        made.docker.base_image_registry = container_registry or ContainerRegistry()
        return made

    @classmethod
    def get(cls, workspace: Connection | None = None, name: str = "", version: str | int | None = None) -> Self:
        """One that was registered, or built, on this machine; a version is taken and means the only one there is."""
        if name == _MINIMAL:
            return cls(name)
        with told_as(UserErrorException):
            found = cls._of(Kept.get(name))
        found.version = None if version is None else str(version)
        return found

    @classmethod
    def list(cls, workspace: Connection | None = None) -> "dict[str, Environment]":
        """Those that are kept on this machine, by name."""
        with told_as(UserErrorException):
            return {one.name: cls._of(one) for one in Kept.list_kept()}

    def register(self, workspace: Connection | None = None) -> Self:
        """Keep it on this machine, under its name, for :meth:`get`; its packages are locked when it is built."""
        with told_as(UserErrorException):
            self.kept().keep()
        return self

    def build_local(
        self, workspace: Connection | None = None, platform: str | None = None, useDocker: bool = False, **_: Any
    ) -> str:
        """Build it now: an image, whose id is returned, or without Docker a virtual environment, whose Python is."""
        with told_as(UserErrorException):
            return self.kept().build_local(use_docker=useDocker)

    def save_to_directory(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write it to a folder, without a registry's password."""
        with told_as(UserErrorException):
            self.kept().save_to_directory(Path(path), overwrite=overwrite)

    @classmethod
    def load_from_directory(cls, path: str | os.PathLike[str]) -> Self:
        """What :meth:`save_to_directory` wrote, here or with Azure ML's SDK."""
        with told_as(UserErrorException):
            found = from_folder(Path(path))
        if found is None:
            raise UserErrorException(
                "no environment was saved here", element=str(path), remedy="name the folder of save_to_directory"
            )
        return cls._of(found)

    def clone(self, new_name: str) -> Self:
        """The same under another name."""
        other = copy.deepcopy(self)
        other.name = new_name
        return other

    def kept(self) -> Kept:
        """As the commands know it.

        Raises:
            Invalid: as :func:`fleet.client.environments.conda_file.read_conda`.
            UserErrorException: something that has no effect here.
        """
        docker, python = self.docker, self.python
        if docker.gpu_support:
            raise UserErrorException(
                "no image for GPUs is built from an environment",
                element="docker.gpu_support",
                remedy="name an image with CUDA in docker.base_image, or serve an ONNX graph",
            )
        if python.interpreter_path not in {"", "python"}:
            raise UserErrorException(
                "this key has no effect on a module",
                element="python.interpreter_path",
                remedy="leave it out, or use that image: docker.base_image",
            )
        source = b"" if python.user_managed_dependencies else python.conda_dependencies.serialize_to_string().encode()
        _, requirements = read_conda(source, where=f"environment {self.name}")
        variables = requirements.variables | {key: str(one) for key, one in self.environment_variables.items()}
        image, private = docker.base_image or "", docker.base_image_registry
        made = Kept(
            name=self.name,
            requirements=msgspec.structs.replace(requirements, variables=variables),
            # Theirs are made for their servers, and on their registry alone: the usual one stands in their place.
            base_image="" if image.startswith(_THEIRS) else image,
            registry=Registry(
                address=private.address or "", username=private.username or "", password=private.password or ""
            ),
            steps=_steps(docker.base_dockerfile),
            source_name=_FILE if source else "",
            source=source,
        )
        wanted = os.environ.get(PYTHON)
        return made.with_python(wanted) if wanted else made

    @classmethod
    def _of(cls, kept: Kept) -> Self:
        made = cls(kept.name)
        if kept.source_name == _FILE:
            content = yaml.safe_load(kept.source) or {}
        else:
            # Lines of pip's; what was left out of them has left its note in the environment that was kept.
            lines = [*kept.requirements.options, *kept.requirements.packages]
            content = {"name": kept.name, "dependencies": [{"pip": lines}]}
        made.python.conda_dependencies = CondaDependencies(_underlying_structure=content)
        made.docker.base_image = kept.base_image or None
        made.docker.base_dockerfile = kept.steps or None
        registry = made.docker.base_image_registry
        registry.address, registry.username = kept.registry.address or None, kept.registry.username or None
        registry.password = kept.registry.password or None
        made.environment_variables = dict(kept.requirements.variables)
        return made

    def __repr__(self) -> str:
        return f"Environment(name={self.name!r}, packages={list(self.python.conda_dependencies.conda_packages)})"


def _steps(dockerfile: str | None) -> str:
    if not dockerfile:
        return ""
    path = Path(dockerfile)
    is_file = "\n" not in dockerfile and path.is_file()
    return check_steps(path.read_text() if is_file else dockerfile, where="docker.base_dockerfile")
