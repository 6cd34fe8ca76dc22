"""``CondaDependencies``: conda's environment file, made and changed in a script."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import yaml

from fleet.client.environments.conda_file import read_conda
from fleet.client.sdk.exceptions import UserErrorException, told_as

_DEFAULTS: Final = "azureml-defaults"
_FILE: Final = "conda_dependencies.yml"
_CHANNELS: Final = ("anaconda", "conda-forge")


class CondaDependencies:
    """The content of a file, or of no file yet: then ``azureml-defaults`` alone, which our own modules replace.

    Raises:
        UserErrorException: the file cannot be read, or has what no image here could have.
    """

    def __init__(
        self,
        conda_dependencies_file_path: str | os.PathLike[str] | None = None,
        _underlying_structure: dict[str, Any] | None = None,
    ) -> None:
        if conda_dependencies_file_path is not None:
            file = Path(conda_dependencies_file_path)
            try:
                data = file.read_bytes()
            except OSError as error:
                raise UserErrorException(
                    f"cannot be read: {error.strerror}", element=str(file), remedy="name conda's environment file"
                ) from error
            with told_as(UserErrorException):
                read_conda(data, where=str(file))
            _underlying_structure = yaml.safe_load(data) or {}
        found = _underlying_structure
        if found is None:
            found = {"name": "project_environment", "channels": list(_CHANNELS), "dependencies": [{"pip": [_DEFAULTS]}]}
        self._file = found

    @classmethod
    def create(
        cls,
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> Self:
        """From names; ``pin_sdk_version`` is about a package that is left out here."""
        made = cls()
        for name in conda_packages or ():
            made.add_conda_package(name)
        for name in pip_packages or ():
            made.add_pip_package(name)
        if pip_indexurl:
            made.set_pip_option(f"--index-url {pip_indexurl}")
        if python_version:
            made.set_python_version(python_version)
        return made

    def add_conda_package(self, conda_package: str) -> None:
        """Add a package of conda's, with its version: ``scikit-learn=1.4``."""
        if conda_package not in self._conda:
            self._conda.insert(sum(isinstance(one, str) for one in self._conda), conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        self._file["dependencies"] = [one for one in self._conda if one != conda_package]

    def add_pip_package(self, pip_package: str) -> None:
        """Add a package of pip's, with its version: ``joblib==1.4``."""
        if pip_package not in self._pip:
            self._pip.append(pip_package)

    def remove_pip_package(self, pip_package: str) -> None:
        if pip_package in self._pip:
            self._pip.remove(pip_package)

    def set_pip_option(self, pip_option: str) -> None:
        """Add a line for pip, such as ``--extra-index-url URL``."""
        if pip_option not in self._pip:
            self._pip.insert(0, pip_option)

    def set_python_version(self, version: str) -> None:
        """Which Python; images have 3.11 and newer."""
        others = [one for one in self._conda if not (isinstance(one, str) and one.split("=")[0].strip() == "python")]
        self._file["dependencies"] = [f"python={version}", *others]

    def add_channel(self, channel: str) -> None:
        """Channels are kept in the file; packages come from pip."""
        channels = self._file.setdefault("channels", [])
        if channel not in channels:
            channels.append(channel)

    @property
    def conda_packages(self) -> Iterator[str]:
        return (one for one in self._conda if isinstance(one, str))

    @property
    def pip_packages(self) -> Iterator[str]:
        return (one for one in self._pip if not one.startswith("-"))

    @property
    def pip_options(self) -> Iterator[str]:
        return (one for one in self._pip if one.startswith("-"))

    @property
    def conda_channels(self) -> Iterator[str]:
        return iter(self._file.get("channels") or ())

    def serialize_to_string(self) -> str:
        """The file's text."""
        text: str = yaml.safe_dump(self._file, sort_keys=False)
        return text

    def save_to_file(self, base_directory: str | os.PathLike[str], conda_file_path: str | None = None) -> str:
        """Write the file below a folder; returns its path from there."""
        name = conda_file_path or _FILE
        (Path(base_directory) / name).parent.mkdir(parents=True, exist_ok=True)
        (Path(base_directory) / name).write_text(self.serialize_to_string())
        return name

    def save(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write the file; into a folder under its usual name."""
        file = Path(path or _FILE)
        file = file / _FILE if file.is_dir() else file
        file.write_text(self.serialize_to_string())
        return str(file)

    def as_dict(self) -> dict[str, Any]:
        return self._file

    @property
    def _conda(self) -> list[Any]:
        found: list[Any] = self._file.setdefault("dependencies", [])
        return found

    @property
    def _pip(self) -> list[str]:
        for one in self._conda:
            if isinstance(one, dict) and "pip" in one:
                lines: list[str] = one["pip"]
                return lines
        self._conda.append({"pip": []})
        return self._pip
