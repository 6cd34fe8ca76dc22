"""The OCI documents of an image, as far as we read and write them, and where its blobs lie.

An image is its configuration, its layers and the image manifest that lists them, each a file named by the hex digits of
its sha256 in one folder, beside the block index of each. The configuration lists the sha256 of every uncompressed layer
(its *diff ids*); its own sha256 is the image id on most engines.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from modules import canonical
from modules.digests import Blob, read_blocks
from modules.errors import Invalid
from modules.names import Digest

# The largest configuration or manifest that is read into memory.
DOCUMENT_LIMIT: Final = 4 << 20
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"

T = TypeVar("T")


class RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...]


class Run(msgspec.Struct, frozen=True, rename={"volumes": "Volumes", "healthcheck": "Healthcheck"}):
    """What an image wants of the host that runs it, as far as a device does not give it."""

    volumes: dict[str, Any] | None = None
    healthcheck: dict[str, Any] | None = None


class Config(msgspec.Struct, frozen=True):
    """What we read of an image's configuration; the rest is the engine's business."""

    rootfs: RootFs
    os: str
    architecture: str
    variant: str = ""
    config: Run | None = None

    @property
    def platform(self) -> str:
        """As a manifest's runtime names it, ``linux/amd64`` or ``linux/arm/v7``."""
        # Every 64-bit Arm is v8, and engines write it or not as they like.
        variant = "" if self.architecture == "arm64" else self.variant
        return "/".join(part for part in (self.os, self.architecture, variant) if part)


class Descriptor(msgspec.Struct, frozen=True):
    """A reference to a blob."""

    digest: str
    annotations: dict[str, str] = {}


class OciManifest(msgspec.Struct, frozen=True):
    config: Descriptor
    layers: tuple[Descriptor, ...]


class OciIndex(msgspec.Struct, frozen=True):
    manifests: tuple[Descriptor, ...]


class DockerImage(msgspec.Struct, frozen=True, rename="pascal"):
    """One entry of a docker archive's ``manifest.json``; the values are paths in the archive."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


def document(data: bytes, kind: type[T], *, what: str) -> T:
    """Read a JSON document that an engine wrote; what we do not know in it is left alone.

    Raises:
        Invalid: too large, or not of this form.
    """
    return canonical.decode(data, kind, limit=DOCUMENT_LIMIT, what=what)


def manifest_bytes(config: Blob, layers: Sequence[Blob]) -> bytes:
    """The OCI image manifest of gzip-compressed layers; the same parts give the same bytes."""

    def descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": blob.sha256, "size": blob.length}

    return canonical.encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, config),
            "layers": [descriptor(LAYER_TYPE, layer) for layer in layers],
        }
    )


def archive_path(digest: str) -> str:
    """Where an OCI layout has a blob."""
    return "blobs/" + digest.replace(":", "/", 1)


def blob_path(blobs: Path, digest: Digest) -> Path:
    """Where the folder ``blobs`` has the blob of this digest."""
    return blobs / digest.removeprefix("sha256:")


def checked_blob(blob: Blob, blobs: Path) -> Iterator[bytes]:
    """A blob's bytes in 64 KiB blocks.

    Raises:
        Invalid: at the end at the latest, if it is missing or not what it is named.
    """
    whole, length = hashlib.sha256(), 0
    try:
        with blob_path(blobs, blob.sha256).open("rb") as stream:
            for block in read_blocks(stream):
                length += len(block)
                if length > blob.length:
                    break
                whole.update(block)
                yield block
    except FileNotFoundError as error:
        raise Invalid("this blob of the image is missing", element=blob.sha256, remedy="fetch it") from error
    if length != blob.length or "sha256:" + whole.hexdigest() != blob.sha256:
        raise Invalid("this blob of the image has been changed on disk", element=blob.sha256, remedy="fetch it again")


def read_blob(blob: Blob, blobs: Path) -> bytes:
    """A document's blob, whole.

    Raises:
        Invalid: as :func:`checked_blob`, or too large for a document.
    """
    if blob.length > DOCUMENT_LIMIT:
        raise Invalid(f"{blob.length} bytes is more than the {DOCUMENT_LIMIT} allowed", element=blob.sha256)
    return b"".join(checked_blob(blob, blobs))
