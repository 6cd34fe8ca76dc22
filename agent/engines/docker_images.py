"""Images on a Docker or Podman engine: held only if the signed digests say so, loaded from blobs, let go by name.

Each device has a name of its own for each image that it may need, and this is all the bookkeeping there is: an engine
deletes an image when its last name goes, so what another device or a person has named stays when we let it go.
"""

import http.client
import importlib
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from agent.engines.docker_api import ApiError, DockerApi, segment
from modules.errors import EngineBusy, Invalid, NoSpace, Untrusted
from modules.images import archive, check_held, image_ids, read_config
from modules.manifest import Image

_LOADED: Final = re.compile(r"Loaded image(?: ID)?:\s*(\S+)")
# Words of Docker, containerd and Podman for "these bytes are not what their digest says".
_NOT_AS_SIGNED: Final = ("diffid", "digest", "mismatch", "match")
_FULL: Final = "no space left"
_DIGITS: Final = 16


class Names(NamedTuple):
    """The names of one installation's images: the repository is of its own, the tag of the image."""

    repository: str

    @classmethod
    def of(cls, installation: str) -> "Names":
        """By the installation's id: two agents on one engine never have the same."""
        return cls(f"edgefleet.local/{installation or 'unknown'}")

    def short(self, image: Image) -> str:
        return image.config.sha256.removeprefix("sha256:")[:_DIGITS]

    def tag(self, image: Image) -> str:
        return f"{self.repository}:{self.short(image)}"


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


def load_image(api: DockerApi, image: Image, blobs: Path, *, reserve: int, tag: str = "") -> None:
    """Send the archive, named ``tag``, and look at what became of it; ``reserve`` bytes of the engine's disk stay free.

    Raises:
        Invalid: a blob is missing or wrong, or what is in them is larger than was signed.
        Untrusted: the engine refused it as not what it is named, or holds something else; that is removed again.
        NoSpace: unpacked, it would not fit on the engine's disk.
        EngineBusy: the engine failed for a reason of its own.
    """
    _plan_space(api, image, blobs, reserve)
    try:
        said = api.load(archive(image, blobs, tag=tag))
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
    place = image_store(api) or blobs
    # The engine keeps the archive beside what it unpacks, until it has done.
    archived = sum(layer.length for layer in image.layers)
    spare = shutil.disk_usage(place).free - reserve - archived
    signed = image.unpacked_bytes
    most = max(spare, 0) if signed is msgspec.UNSET else min(max(spare, 0), signed)
    layers = importlib.import_module("modules.unpacked")  # with tarfile: most agents have the images that they need
    need = layers.unpacked(layers.layers_of(image, blobs), most=most)
    if signed is not msgspec.UNSET and need > signed:
        raise Invalid(
            f"it unpacks to more than the {signed} bytes that were signed",
            element=f"image {image.name}",
            remedy="import the image again where it was published, and register the module anew",
        )
    if need > spare:
        raise NoSpace(
            f"it unpacks to {need >> 20} MiB or more, and {max(spare, 0) >> 20} are free beyond the reserve at {place}",
            element=f"image {image.name}",
            remedy="free space where the container engine keeps images, if the image is to be that large",
        )


def image_store(api: DockerApi) -> Path | None:
    """Where the engine keeps images; None where that cannot be seen from here."""
    try:
        said = api.get("/info").get("DockerRootDir")
    except ApiError:
        said = None
    return Path(said) if said and Path(said).exists() else None


def keep_image(api: DockerApi, image: Image, names: Names) -> None:
    """Name the image, unless nobody has: the name would be its last, and going would take somebody's image along."""
    inspected = _inspect(api, image)
    tags = (inspected or {}).get("RepoTags") or ()
    if inspected is None or not tags or names.tag(image) in tags:
        return
    try:
        path = f"/images/{segment(inspected['Id'])}/tag"
        api.post(path, repo=names.repository, tag=names.short(image))
    except ApiError as error:
        # One that is gone meanwhile is found missing when it is to start.
        if error.status != http.client.NOT_FOUND:
            raise EngineBusy(
                f"the engine could not name it: {error.message}",
                element=f"image {image.name}",
                remedy="look at its log",
            ) from error


def let_go_images(api: DockerApi, keep: Collection[Image], names: Names) -> None:
    """Take our names off all images but these."""
    kept = {names.tag(image) for image in keep}
    try:
        listed = api.get("/images/json")
    except ApiError as error:
        raise EngineBusy(f"the engine could not list images: {error.message}", remedy="look at its log") from error
    ours = {tag for one in listed for tag in one.get("RepoTags") or () if tag.startswith(f"{names.repository}:")}
    for tag in sorted(ours - kept):
        _forget(api, tag)


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
        api.delete(f"/images/{segment(reference)}", noprune="1")
    except ApiError as error:
        if error.status not in {http.client.NOT_FOUND, http.client.CONFLICT}:
            raise EngineBusy(
                f"the engine could not remove it: {error.message}",
                element=f"image {reference}",
                remedy="look at its log",
            ) from error
