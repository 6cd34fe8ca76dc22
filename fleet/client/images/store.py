"""Images into the workspace: built here, read from an archive, or taken from the container engine."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from fleet.client.images.docker_engine import docker_engine
from fleet.client.images.image_build import SCORING, build_image
from fleet.client.screen import Step
from fleet.client.workspace import Workspace
from modules.errors import BadSettings, EdgefleetError, Invalid
from modules.image_import import import_archive
from modules.images import archive, image_ids, read_config
from modules.manifest import Image
from modules.oci import blob_path
from modules.unpacked import sized


class _Counted(io.RawIOBase):
    """A stream of chunks that tells how far it has been read."""

    def __init__(self, chunks: Iterator[bytes], total: int, step: Step, what: str) -> None:
        self._chunks, self._rest = chunks, b""
        self._done, self._total, self._step, self._what = 0, total, step, what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        self._done += len(part)
        self._step(self._what, self._done, self._total)
        return len(part)


def add_archive(file: Path, workspace: Workspace, step: Step, *, name: str = "") -> Image:
    """Bring in a tar written by ``docker save`` or ``podman save``.

    Raises:
        Invalid: as :func:`modules.image_import.import_archive`.
    """
    with file.open("rb") as stream:
        chunks = iter(lambda: stream.read(1 << 20), b"")
        return _keep(chunks, file.stat().st_size, workspace, step, name)


def add_from_engine(reference: str, workspace: Workspace, step: Step, *, name: str) -> Image:
    """Bring in an image that the container engine has; nothing is pulled.

    Raises:
        Invalid: the engine has no such image, or it cannot be read.
        NoEngine: no engine answers.
    """
    with docker_engine() as engine:
        return take(engine, reference, workspace, step, name)


def save(image: Image, file: Path, workspace: Workspace, step: Step) -> None:
    """Write an image as a tar that devices import and engines load; the file is replaced when it is whole.

    Raises:
        Invalid: a blob of the workspace is missing or was changed.
        BadSettings: the file cannot be written.
    """
    total, done = sum(blob.length for blob in (image.config, image.manifest, *image.layers)), 0
    draft = file.with_name(file.name + ".partial")
    try:
        with draft.open("wb") as out:
            for chunk in archive(image, workspace.blobs):
                out.write(chunk)
                done += len(chunk)
                step("writing the image", min(done, total), total)
        draft.replace(file)
    except OSError as error:
        raise BadSettings(str(error.strerror), element=str(file), remedy="name a file that can be written") from error
    finally:
        draft.unlink(missing_ok=True)


def build(name: str, extra: tuple[str, ...], workspace: Workspace, step: Step, *, line: Callable[[str], None]) -> Image:
    """Build the scoring image and bring it in; ``line`` gets what the build prints.

    Raises:
        NeedsOperator: as :func:`fleet.client.images.image_build.build_image`.
        NoEngine: no engine answers.
    """
    with docker_engine() as engine:
        image_id = build_image(SCORING, client=engine, name=name, extra_requirements=extra, progress=line)
        return take(engine, image_id, workspace, step, name)


def take(
    engine: Any, reference: str, workspace: Workspace, step: Step, name: str, *, environment: bool = False
) -> Image:
    """Bring in an image of an engine that is open already; nothing is read where the workspace has it.

    Raises:
        Invalid: as :func:`add_from_engine`.
    """
    from docker.errors import ImageNotFound  # noqa: PLC0415  a tenth of a second, for these commands alone

    try:
        found = engine.images.get(reference)
    except ImageNotFound as error:
        raise Invalid(
            "neither a file nor an image that Docker has",
            element=reference,
            remedy="check the name with docker images, or pull it first",
        ) from error
    for image in workspace.images():
        if _same(image, found.attrs, workspace):
            named = msgspec.structs.replace(image, name=name)
            workspace.keep_image(named, environment=environment)
            return named
    image = _keep(found.save(), int(found.attrs.get("Size") or 0), workspace, step, name, environment=environment)
    if found.attrs["Id"] not in image_ids(image):
        workspace.keep_engine_id(found.attrs["Id"], image)
    return image


def _same(image: Image, held: dict[str, Any], workspace: Workspace) -> bool:
    """Whether the engine's image is this one of the workspace, all of whose blobs are there."""
    known = workspace.engine_ids().get(held["Id"])
    if held["Id"] not in image_ids(image) and known != image.config.sha256:
        return False
    parts = {blob_path(workspace.blobs, blob.sha256): blob for blob in (image.manifest, image.config, *image.layers)}
    if not all(path.is_file() and path.stat().st_size == blob.length for path, blob in parts.items()):
        return False
    try:
        layers = read_config(image, workspace.blobs).rootfs.diff_ids
    except EdgefleetError:
        return False
    return tuple((held.get("RootFS") or {}).get("Layers") or ()) == layers


def _keep(
    chunks: Iterator[bytes], total: int, workspace: Workspace, step: Step, name: str, *, environment: bool = False
) -> Image:
    stream = io.BufferedReader(_Counted(chunks, total, step, "reading the image"))
    image = sized(import_archive(cast("BinaryIO", stream), workspace.blobs, name=name), workspace.blobs)
    run = read_config(image, workspace.blobs).config
    if run is not None and run.volumes:
        raise Invalid(
            f"the image declares volumes ({', '.join(sorted(run.volumes))}), which no device gives it",
            element=image.name or "image",
            remedy="build it without VOLUME; a module writes to /tmp alone",
        )
    workspace.keep_image(image, environment=environment)
    return image
