"""Images on a Docker or Podman engine: held only if the signed digests say so, loaded from blobs, let go by tag."""

import http.client
import re
import shutil
from pathlib import Path
from typing import Any, Final

from agent.engines.docker_api import ApiError, DockerApi, segment
from agent.engines.unpacked import unpacked
from modules.errors import EngineBusy, Invalid, NoSpace, Untrusted
from modules.images import archive, archive_tag, check_held, image_ids, read_config
from modules.manifest import Image
from modules.oci import blob_path

_LOADED: Final = re.compile(r"Loaded image(?: ID)?:\s*(\S+)")
# Words of Docker, containerd and Podman for "these bytes are not what their digest says".
_NOT_AS_SIGNED: Final = ("diffid", "digest", "mismatch", "match")
_FULL: Final = "no space left"


def engine_id(api: DockerApi, image: Image) -> str | None:
    """The id under which the engine holds the image, one of the two signed digests; None if it does not."""
    inspected = _inspect(api, image)
    return None if inspected is None else inspected["Id"]


def declared_volumes(api: DockerApi, image: Image) -> frozenset[str]:
    """The paths at which the image's configuration asks for volumes of the host's disk."""
    inspected = _inspect(api, image) or {}
    return frozenset((inspected.get("Config") or {}).get("Volumes") or ())


def has_image(api: DockerApi, image: Image, blobs: Path) -> bool:
    """Whether the engine holds the image with the signed id and layers."""
    inspected = _inspect(api, image)
    if inspected is None:
        return False
    try:
        config = read_config(image, blobs)
        check_held(image, config, engine_id=inspected["Id"], engine_layers=inspected["RootFS"].get("Layers") or ())
    except (Untrusted, Invalid):
        return False
    return True


def load_image(api: DockerApi, image: Image, blobs: Path, *, reserve: int) -> None:
    """Send the archive and look at what the engine made of it; ``reserve`` bytes of its disk stay free.

    Raises:
        Invalid: a blob is missing or wrong.
        Untrusted: the engine refused it as not what it is named, or holds something else; that is removed again.
        NoSpace: unpacked, it would not fit on the engine's disk.
        EngineBusy: the engine failed for a reason of its own.
    """
    _plan_space(api, image, blobs, reserve)
    try:
        said = api.load(archive(image, blobs))
    except ApiError as error:
        words = error.message.lower()
        if _FULL in words:
            raise NoSpace(
                error.message,
                element=f"image {image.name}",
                remedy="free space where the container engine keeps images",
            ) from error
        if any(word in words for word in _NOT_AS_SIGNED):
            raise Untrusted(f"the engine refused it: {error.message}", element=f"image {image.name}") from error
        raise EngineBusy(
            f"the engine could not load it: {error.message}",
            element=f"image {image.name}",
            remedy="look at the engine's log",
        ) from error
    if not has_image(api, image, blobs):
        for reference in _LOADED.findall(said):
            _forget(api, reference)
        raise Untrusted(
            f"after loading, the engine does not hold what was signed; it said {said.strip()[:200]!r}",
            element=f"image {image.name}",
            remedy="use an engine that keeps an image's digests (Docker, Podman)",
        )


def _plan_space(api: DockerApi, image: Image, blobs: Path, reserve: int) -> None:
    place = _store(api, blobs)
    # The engine keeps the archive beside what it unpacks, until it has done.
    archived = sum(layer.length for layer in image.layers)
    spare = shutil.disk_usage(place).free - reserve - archived
    need = unpacked((blob_path(blobs, layer.sha256) for layer in image.layers), most=max(spare, 0))
    if need > spare:
        raise NoSpace(
            f"it unpacks to {need >> 20} MiB or more, and {max(spare, 0) >> 20} are free beyond the reserve at {place}",
            element=f"image {image.name}",
            remedy="free space where the container engine keeps images, if the image is to be that large",
        )


def _store(api: DockerApi, blobs: Path) -> Path:
    """Where the engine keeps images; the agent's own disk, where that cannot be seen from here."""
    try:
        said = api.get("/info").get("DockerRootDir")
    except ApiError:
        said = None
    return Path(said) if said and Path(said).exists() else blobs


def remove_image(api: DockerApi, image: Image) -> None:
    """Take our tag away, and the image with it unless it is in use or has another tag."""
    _forget(api, archive_tag(image))
    inspected = _inspect(api, image)
    if inspected is not None and not inspected.get("RepoTags"):
        _forget(api, inspected["Id"])


def _inspect(api: DockerApi, image: Image) -> dict[str, Any] | None:
    for digest in image_ids(image):
        try:
            inspected: dict[str, Any] = api.get(f"/images/{segment(digest)}/json")
        except ApiError as error:
            if error.status == http.client.NOT_FOUND:
                continue
            raise EngineBusy(
                f"the engine could not show it: {error.message}",
                element=f"image {image.name}",
                remedy="look at its log",
            ) from error
        # Podman writes ids without the algorithm.
        inspected["Id"] = "sha256:" + inspected["Id"].removeprefix("sha256:")
        # An engine may resolve what we asked for as the beginning of a name; only the whole id counts.
        if inspected["Id"] == digest:
            return inspected
    return None


def _forget(api: DockerApi, reference: str) -> None:
    """Remove without force: what is in use stays, what is gone is gone."""
    try:
        api.delete(f"/images/{segment(reference)}")
    except ApiError as error:
        if error.status not in {http.client.NOT_FOUND, http.client.CONFLICT}:
            raise EngineBusy(
                f"the engine could not remove it: {error.message}",
                element=f"image {reference}",
                remedy="look at its log",
            ) from error
