"""What an entry script runs in, under the names that Azure ML's users know: read from a file, kept, written, built."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from platform import libc_ver, machine
from typing import Any, Final, Self

import msgspec

from fleet.client import config
from fleet.client.environments.conda_file import read_conda
from fleet.client.environments.docker_steps import check_steps
from fleet.client.environments.environment_image import Built, Recipe, build_environment_image
from fleet.client.environments.requirements import IMAGES_PYTHON, Entry, Requirements, read_requirements
from fleet.client.environments.wheels import WheelSet, forget, locked
from fleet.client.images.base_image import Progress, Registry
from fleet.client.images.docker_engine import docker_engine
from fleet.client.images.pip import Inside, pip
from modules import canonical
from modules.errors import BadSettings, Invalid

DESCRIPTION: Final = "environment.json"
LOCK: Final = "lock.txt"
LIMIT: Final = 1 << 20
PASSWORD: Final = "EDGEFLEET_REGISTRY_PASSWORD"  # noqa: S105  the variable's name


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``environment.json``: all but the password of the registry."""

    name: str
    requirements: Requirements
    base_image: str = ""
    registry_address: str = ""
    registry_username: str = ""
    steps: str = ""
    source_name: str = ""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """An environment; ``source`` is the file that it was read from, as it was, for people to find again."""

    name: str
    requirements: Requirements = Requirements()
    base_image: str = ""
    registry: Registry = Registry()
    steps: str = ""
    source_name: str = ""
    source: bytes = b""

    @classmethod
    def from_conda_specification(cls, name: str, file_path: Path) -> Self:
        """From conda's YAML file; without a name, the one in the file.

        Raises:
            Invalid: as :func:`fleet.client.environments.conda_file.read_conda`.
        """
        data = _read(file_path)
        named, requirements = read_conda(data, where=str(file_path))
        return cls(
            name=name or named or file_path.stem,
            requirements=requirements,
            source_name="conda_dependencies.yml",
            source=data,
        )

    @classmethod
    def from_requirements(cls, name: str, file_path: Path) -> Self:
        """From pip's ``requirements.txt``; without a name, that of its folder.

        Raises:
            Invalid: as :func:`fleet.client.environments.requirements.read_requirements`.
        """
        requirements = read_requirements(file_path)
        found = name or file_path.absolute().parent.name
        return cls(name=found, requirements=requirements, source_name="requirements.txt", source=_read(file_path))

    @classmethod
    def get(cls, name: str) -> Self:
        """One that was kept on this machine.

        Raises:
            Invalid: there is none of that name.
        """
        folder = _folder(name)
        if not (folder / DESCRIPTION).is_file():
            known = ", ".join(one.name for one in cls.list_kept()) or "none"
            raise Invalid(
                f"no environment of this name is kept here (there are: {known})",
                element=name,
                remedy="make it: edgefleet environments build --name NAME --conda-file FILE",
            )
        return cls.load_from_directory(folder)

    @classmethod
    def list_kept(cls) -> list[Self]:
        """All that are kept on this machine, by name."""
        found = sorted(_folders().glob(f"*/{DESCRIPTION}"))
        return [cls.load_from_directory(file.parent) for file in found]

    @classmethod
    def load_from_directory(cls, path: Path) -> Self:
        """What :meth:`save_to_directory` wrote. The registry's password comes from EDGEFLEET_REGISTRY_PASSWORD.

        Raises:
            Invalid: there is nothing, or it was damaged.
        """
        file = path / DESCRIPTION
        kept = canonical.decode(_read(file), _Kept, limit=LIMIT, what=str(file))
        source = path / kept.source_name
        return cls(
            name=kept.name,
            requirements=kept.requirements,
            base_image=kept.base_image,
            registry=Registry(
                address=kept.registry_address, username=kept.registry_username, password=os.environ.get(PASSWORD, "")
            ),
            steps=check_steps(kept.steps, where=str(file)),
            source_name=kept.source_name,
            source=source.read_bytes() if kept.source_name and source.is_file() else b"",
        )

    def save_to_directory(self, path: Path, *, overwrite: bool = False) -> None:
        """Write it to a folder; a registry's password is not written.

        Raises:
            Invalid: there is something already.
            BadSettings: the folder cannot be written to.
        """
        if (path / DESCRIPTION).exists() and not overwrite:
            raise Invalid("there is an environment already", element=str(path), remedy="name another folder")
        kept = _Kept(
            name=self.name, requirements=self.requirements, base_image=self.base_image,
            registry_address=self.registry.address, registry_username=self.registry.username, steps=self.steps,
            source_name=self.source_name,
        )  # fmt: skip
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / DESCRIPTION).write_bytes(msgspec.json.format(canonical.encode(kept), indent=2))
            if self.source:
                (path / self.source_name).write_bytes(self.source)
        except OSError as error:
            raise BadSettings(
                f"cannot be written: {error.strerror}", element=str(path), remedy="name another folder"
            ) from error

    def forget(self) -> None:
        """Remove what is kept of it on this machine."""
        shutil.rmtree(_folder(self.name))

    def keep(self) -> Path:
        """Keep it on this machine under its name, for :meth:`get`; returns the folder."""
        folder = _folder(self.name)
        self.save_to_directory(folder, overwrite=True)
        return folder

    def with_python(self, version: str) -> Self:
        """The same for another Python than its file says (``3.11``)."""
        entries = tuple(one for one in self.requirements.entries if one.note != IMAGES_PYTHON)
        chosen = Entry(text="--python", became=f"python=={version}.*", note=IMAGES_PYTHON)
        changed = msgspec.structs.replace(self.requirements, python=f"=={version}.*", entries=(chosen, *entries))
        return msgspec.structs.replace(self, requirements=changed)

    def build_image(self, *, client: Any, upgrade: bool = False, progress: Progress) -> Built:
        """Build the image with a container engine's client.

        Raises:
            Invalid, NeedsOperator: as :func:`fleet.client.environments.environment_image.build_environment_image`.
        """
        built = build_environment_image(
            self.recipe(), client=client, store=wheels_store(), upgrade=upgrade, progress=progress
        )
        self._keep_lock(built.wheels)
        return built

    def recipe(self) -> Recipe:
        """What an image of it is made from."""
        return Recipe(
            name=self.name, requirements=self.requirements, base_image=self.base_image, registry=self.registry,
            steps=self.steps,
        )  # fmt: skip

    def build_local(self, *, use_docker: bool = True, upgrade: bool = False, progress: Progress = print) -> str:
        """Build it on this machine: as an image, whose id is returned, or without Docker as a virtual environment.

        The virtual environment's Python is returned; with it in EDGEFLEET_SCRIPT_PYTHON the scoring server runs a
        script in it.

        Raises:
            Invalid, NeedsOperator: as :meth:`build_image`; this machine's Python will not do.
            NoEngine: no engine answers.
        """
        if use_docker:
            with docker_engine() as engine:
                return self.build_image(client=engine, upgrade=upgrade, progress=progress).image_id
        inside = _here()
        if not self.requirements.accepts(inside.python):
            raise Invalid(
                f"the environment asks for Python {self.requirements.python}, here is {inside.python}",
                element=sys.executable,
                remedy=f"run edgefleet with that Python, or say --python {inside.python}",
            )
        if self.steps or self.base_image:
            raise Invalid(
                "only an image can have a base image and Docker steps", element=self.name, remedy="build it with Docker"
            )
        if upgrade:
            forget(self.requirements, inside, (), wheels_store())
        wheels = locked(self.requirements, inside, (), wheels_store(), progress)
        folder = self._keep_lock(wheels)
        return str(_virtual_environment(folder, wheels, progress))

    def _keep_lock(self, wheels: WheelSet) -> Path:
        folder = self.keep()
        (folder / LOCK).write_text(wheels.lock)
        return folder


def _virtual_environment(folder: Path, wheels: WheelSet, progress: Progress) -> Path:
    """Make it anew where the lock has changed; returns its Python."""
    place, made_from = folder / "venv", folder / "venv" / LOCK
    python = place / "bin" / "python"
    if made_from.is_file() and made_from.read_text() == wheels.lock:
        return python
    progress(f"making a virtual environment in {place}")
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=False, symlinks=True)
    if wheels.wheels:
        links = [f"--find-links={one}" for one in {wheel.file.parent for wheel in wheels.wheels}]
        pip(
            "--python", str(python), "install", "--no-index", "--no-deps", "--require-hashes", *links,
            f"--requirement={folder / LOCK}",
        )  # fmt: skip
    purelib = subprocess.run(  # noqa: S603  the interpreter that was just made
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    # What the script does not name it finds where the scoring server has it, as in an image.
    Path(purelib, "zz-after.pth").write_text(sysconfig.get_path("purelib") + "\n")
    made_from.write_text(wheels.lock)
    return python


def _here() -> Inside:
    libc, version = libc_ver()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if libc != "glibc":
        raise Invalid("wheels are fetched for glibc only", element=sys.executable, remedy="build it with Docker")
    return Inside(python=python, libc=libc, version=version, machine=machine())


def _folders() -> Path:
    return config.home() / "environments"


def _folder(name: str) -> Path:
    if not name or "/" in name or name.startswith("."):
        raise Invalid(
            "this is not a name for an environment", element=repr(name), remedy="use letters, digits, - and _"
        )
    return _folders() / name


def wheels_store() -> Path:
    """Where wheels are kept: EDGEFLEET_WHEELS, else beside the workspace."""
    chosen = os.environ.get("EDGEFLEET_WHEELS")
    return Path(chosen).expanduser() if chosen else config.home() / "wheels"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Invalid(f"cannot be read: {error.strerror}", element=str(file)) from error
