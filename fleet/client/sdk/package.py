"""``ModelPackage``: models, script and environment in one image, or in a folder from which Docker builds it anywhere.

It is made beside the script that asked for it; ``wait_for_creation`` shows how, and raises what went wrong.
"""

import shutil
import tempfile
import threading
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fleet.client.environments import package_context
from fleet.client.environments.inference_config import InferenceConfig as Resolved
from fleet.client.images.docker_engine import docker_engine
from fleet.client.sdk.connection import Connection
from fleet.client.sdk.environment import ContainerRegistry
from fleet.client.sdk.exceptions import UserErrorException, WebserviceException, told_as
from fleet.client.sdk.model_version import ModelVersion
from fleet.client.sdk.package_making import Made, Wanted, make, wanted
from modules.errors import EdgefleetError

RUNNING, SUCCEEDED, FAILED = "Running", "Succeeded", "Failed"
_SHOWN_LINES: Final = 20


class _Log:
    """Lines that one thread writes and others read as they come."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False

    def say(self, line: str) -> None:
        with self._changed:
            self._lines.append(line.rstrip())
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def follow(self) -> Iterator[str]:
        """Each line, until there will be no more."""
        shown, ended = 0, False
        while not ended:
            with self._changed:
                while not self._ended and len(self._lines) == shown:
                    self._changed.wait()
                fresh, ended = self._lines[shown:], self._ended
            yield from fresh
            shown += len(fresh)

    def text(self, last: int = 0) -> str:
        with self._changed:
            return "\n".join(self._lines[-last:])


class ModelPackage:
    """What ``Model.package`` returns, at once."""

    def __init__(self, workspace: Connection, what: Wanted) -> None:
        self.workspace = workspace
        self.package_id = uuid.uuid4().hex
        self._what, self._log = what, _Log()
        self._made: Made | None = None
        self._error: BaseException | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="edgefleet-package-"))
        self._removal = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._thread = threading.Thread(target=self._make, name="package")
        self._thread.start()

    @classmethod
    def begin(
        cls,
        workspace: Connection,
        models: Sequence[ModelVersion],
        config: Resolved | None,
        *,
        dockerfile: bool = False,
        name: str | None = None,
        label: str | None = None,
        trigger: Mapping[str, str] | None = None,
    ) -> "ModelPackage":
        """Begin to make it.

        Raises:
            UserErrorException: as :func:`fleet.client.sdk.package_making.wanted`.
        """
        what = wanted(models, config, dockerfile=dockerfile, name=name, label=label, trigger=trigger or {})
        return cls(workspace, what)

    def _make(self) -> None:
        try:
            self._made = make(self.workspace, self._what, self._folder, self._log.say)
        except BaseException as error:  # noqa: BLE001  whoever waits gets it
            self._error = error
        finally:
            if self._error is not None or not self._what.dockerfile:
                # An image has it all; what failed is of use to nobody.
                self._removal()
            self._log.end()

    @property
    def creation_state(self) -> str:
        """``Running``, ``Succeeded`` or ``Failed``."""
        if self._thread.is_alive():
            return RUNNING
        return FAILED if self._error is not None else SUCCEEDED

    @property
    def environment(self) -> Any:
        """What the script runs in; None where no environment was given."""
        return self._what.config.environment if self._what.config else None

    @property
    def location(self) -> str | None:
        """The image's name and label in this machine's engine, or the folder with the Dockerfile; None before."""
        return self._made.location if self._made else None

    def wait_for_creation(self, show_output: bool = False) -> None:
        """Return once it is made; with ``show_output`` print what is done meanwhile.

        Raises:
            WebserviceException: it cannot be made, with the end of the log.
        """
        for line in self.lines():
            if show_output:
                print(line)
        self._thread.join()
        if isinstance(self._error, EdgefleetError):
            tail = self._log.text(_SHOWN_LINES)
            shown = f"{self._error.message}\nlast lines of its log:\n{tail}" if tail else self._error.message
            failed = WebserviceException(shown, element=self._error.element, remedy=self._error.remedy)
            failed.code = self._error.code
            raise failed from self._error
        if self._error is not None:
            raise self._error

    def lines(self) -> Iterator[str]:
        """What is done, line by line, until it is made or has failed."""
        return self._log.follow()

    def get_logs(self, decode: bool = True, offset: int = 0) -> str | bytes:
        """What was done so far, from a byte on; not decoded it is bytes in UTF-8."""
        rest = self._log.text().encode()[offset:]
        return rest.decode("utf-8", "replace") if decode else rest

    def get_container_registry(self) -> ContainerRegistry:
        """Where the base image of the Dockerfile is from, for ``docker login``.

        Images are built in this machine's engine, and the usual base image is public: then all three are None.

        Raises:
            WebserviceException: as :meth:`wait_for_creation`.
        """
        registry, found = self._ready().registry, ContainerRegistry()
        found.address, found.username = registry.address or None, registry.username or None
        found.password = registry.password or None
        return found

    def pull(self) -> None:
        """Make sure that this machine's engine has the image, where it was built, and say its name.

        Raises:
            UserErrorException: the package is files.
            WebserviceException: the engine has it no more; or as :meth:`wait_for_creation`.
        """
        from docker.errors import ImageNotFound  # noqa: PLC0415  a tenth of a second, for packages alone

        made = self._ready()
        if self._what.dockerfile:
            raise UserErrorException(
                "this package is files, and no image", element="generate_dockerfile",
                remedy="save(folder), and docker build it; or package without generate_dockerfile",
            )  # fmt: skip
        with told_as(WebserviceException), docker_engine() as engine:
            try:
                engine.images.get(made.image_id)
            except ImageNotFound:
                raise WebserviceException(
                    "the engine has this image no more", element=made.location, remedy="package it again: Model.package"
                ) from None
        print(f"Status: Image is up to date for {made.location}")

    def save(self, output_directory: str | Path) -> None:
        """Write the Dockerfile and all that it copies to a folder, which is made; an earlier package there is replaced.

        Raises:
            UserErrorException: the package is an image, or the folder has something else in it.
            WebserviceException: as :meth:`wait_for_creation`.
        """
        self._ready()
        if not self._what.dockerfile:
            raise UserErrorException(
                "this package is an image, and no files", element="generate_dockerfile",
                remedy="package with generate_dockerfile=True; an image is written with docker save",
            )  # fmt: skip
        target = Path(output_directory)
        known = (target / package_context.CONFIG_MAP).is_file()
        if not known and (target.is_file() or (target.is_dir() and any(target.iterdir()))):
            raise UserErrorException(
                "there is something else already", element=str(target), remedy="name a folder that is empty or new"
            )
        try:
            package_context.copy(self._folder, target)
        except (OSError, shutil.Error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UserErrorException(
                f"cannot be written: {reason}", element=str(target), remedy="name another folder, or make room"
            ) from error

    def serialize(self) -> dict[str, Any]:
        """What is known of it, as JSON takes it."""
        return {
            "packageId": self.package_id,
            "workspaceName": self.workspace.name,
            "creationState": self.creation_state,
            "location": self.location,
            "generateDockerfile": self._what.dockerfile,
            "imageId": self._made.image_id if self._made else "",
            "models": [one.id for one in self._what.models],
            "environment": self.environment.name if self.environment else None,
        }

    def __repr__(self) -> str:
        return f"ModelPackage(package_id={self.package_id}, state={self.creation_state}, location={self.location})"

    def _ready(self) -> Made:
        self.wait_for_creation()
        assert self._made is not None  # noqa: S101  it was made, or its error was raised
        return self._made
