"""The options with which commands name an environment, and the environment that they mean together."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fleet.client.environments.docker_steps import read_steps
from fleet.client.environments.environment import DESCRIPTION, Environment
from fleet.client.images.base_image import Registry
from modules.errors import Invalid

CondaFile = Annotated[
    Path | None, typer.Option(help="Conda's environment file; its packages come from pip, and the output lists how.")
]
RequirementsFile = Annotated[Path | None, typer.Option("--requirements", help="A requirements.txt of pip's.")]
Kept = Annotated[
    str | None, typer.Option("--environment", help="An environment kept on this machine, or a folder with one.")
]
BaseImage = Annotated[str, typer.Option(help="Image to build upon; scripts may import what its Python has.")]
RegistryAddress = Annotated[str, typer.Option("--registry", help="Address of the base image's private registry.")]
RegistryUser = Annotated[str, typer.Option("--registry-username", help="User name there.")]
RegistryPassword = Annotated[
    str,
    typer.Option(
        "--registry-password",
        envvar="EDGEFLEET_REGISTRY_PASSWORD",
        show_envvar=False,
        help="Password there; better given in EDGEFLEET_REGISTRY_PASSWORD. It is kept nowhere.",
    ),
]
Python = Annotated[
    str, typer.Option("--python", help="Build for this Python (3.11), whatever the environment's file says.")
]
DockerSteps = Annotated[
    Path | None, typer.Option(help="File with further steps for the image, as in a Dockerfile: RUN, ENV, ARG, LABEL.")
]
Upgrade = Annotated[bool, typer.Option("--upgrade", help="Lock today's versions, not those of the last time.")]


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What the options say."""

    conda_file: Path | None = None
    requirements: Path | None = None
    kept: str | None = None
    base_image: str = ""
    registry: Registry = Registry()
    python: str = ""
    docker_steps: Path | None = None

    def environment(self, name: str = "", *, without: Environment | None = None) -> Environment | None:
        """The environment; ``without`` is used where no option names one, None where there is not that either.

        Raises:
            Invalid: more than one is named, or one that cannot be used.
        """
        named = [one for one in (self.conda_file, self.requirements, self.kept) if one]
        if len(named) > 1:
            raise Invalid(
                "an environment can come from one place only",
                element=", ".join(map(str, named)),
                remedy="name one of --conda-file, --requirements and --environment",
            )
        found = self._named(name) or without
        if found is None:
            if not (self.base_image or self.docker_steps):
                return None
            found = Environment(name=name)
        if name:
            found = msgspec.structs.replace(found, name=name)
        if self.base_image:
            found = msgspec.structs.replace(found, base_image=self.base_image)
        if self.registry != Registry():
            known, given = found.registry, self.registry
            registry = Registry(
                address=given.address or known.address,
                username=given.username or known.username,
                password=given.password or known.password,
            )
            found = msgspec.structs.replace(found, registry=registry)
        if self.docker_steps:
            found = msgspec.structs.replace(found, steps=read_steps(self.docker_steps))
        return found.with_python(self.python) if self.python else found

    def _named(self, name: str) -> Environment | None:
        if self.conda_file:
            return Environment.from_conda_specification(name, self.conda_file)
        if self.requirements:
            return Environment.from_requirements(name, self.requirements)
        if not self.kept:
            return None
        folder = Path(self.kept)
        return (
            Environment.load_from_directory(folder) if (folder / DESCRIPTION).is_file() else Environment.get(self.kept)
        )
