"""A container image as blobs: in from what an engine saves, out as a tar that any engine loads, checked both ways.

Layers are kept compressed, because they travel. So the image manifest is ours and not a registry's, while the
configuration, and with it the image id, stays the engine's own. What binds an image to its signature: the signed
configuration lists the sha256 of every uncompressed layer. ``modules.oci`` has the documents, ``modules.image_import``
the way in.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from modules import canonical
from modules.digests import Blob
from modules.errors import Invalid, Untrusted
from modules.manifest import Image
from modules.names import Digest
from modules.oci import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    Config,
    OciManifest,
    archive_path,
    checked_blob,
    document,
    read_blob,
)

#: how the gateway's image is called on a container host, unless its target says otherwise
GATEWAY_IMAGE: Final = "edgefleet.local/gateway:latest"
_TAG_DIGITS: Final = 16
_TAR_BLOCK: Final = 512


def read_config(image: Image, blobs: Path) -> Config:
    """The configuration from its blob.

    Raises:
        Invalid: the blob is missing, or not the signed one, or no configuration.
    """
    return document(read_blob(image.config, blobs), Config, what=image.config.sha256)


def image_ids(image: Image) -> tuple[Digest, Digest]:
    """What an engine may call this image: the config's digest (Docker's classic store, Podman), or the manifest's."""
    return image.config.sha256, image.manifest.sha256


def check_held(image: Image, config: Config, *, engine_id: str, engine_layers: Sequence[str]) -> None:
    """Accept what an engine's ``inspect`` says of an image (``Id`` and ``RootFS.Layers``) only if it was signed.

    Raises:
        Untrusted: another id than the two signed ones, or other layers than the signed configuration lists.
    """
    if engine_id not in image_ids(image):
        raise Untrusted(f"the engine holds {engine_id or 'no id'}, which nobody signed", element=f"image {image.name}")
    if tuple(engine_layers) != config.rootfs.diff_ids:
        raise Untrusted("the engine holds other layers than were signed", element=f"image {image.name}")


def archive_tag(image: Image) -> str:
    """The tag that :func:`archive` gives where no other is asked for: of images that people bring in by hand.

    It keeps an engine's pruning off the image, and decides nothing. No agent takes it away.
    """
    return f"edgefleet.local/image:{image.config.sha256.removeprefix('sha256:')[:_TAG_DIGITS]}"


def archive(image: Image, blobs: Path, *, tag: str = "") -> Iterator[bytes]:
    """The image as a tar in chunks of at most 64 KiB, both OCI layout and docker archive, always the same bytes.

    Docker before 25 and Podman read ``manifest.json``, the containerd store ``index.json``. Every blob is checked as it
    passes, so a wrong one breaks the stream off before an engine could finish loading.

    Raises:
        Invalid: a blob is missing or not what it is named, or the image's parts do not belong together.
    """
    _check_parts(image, blobs)
    tag = tag or archive_tag(image)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            {
                "mediaType": MANIFEST_TYPE,
                "digest": image.manifest.sha256,
                "size": image.manifest.length,
                "annotations": {
                    "io.containerd.image.name": tag,
                    "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
                },
            }
        ],
    }
    docker = {
        "Config": archive_path(image.config.sha256),
        "RepoTags": [tag],
        "Layers": [archive_path(layer.sha256) for layer in image.layers],
    }
    yield _member("oci-layout", canonical.encode({"imageLayoutVersion": "1.0.0"}))
    yield _member("index.json", canonical.encode(index))
    yield _member("manifest.json", canonical.encode([docker]))
    written: set[str] = set()
    for blob in _parts(image):
        if blob.sha256 not in written:
            written.add(blob.sha256)
            yield _header(archive_path(blob.sha256), blob.length)
            yield from checked_blob(blob, blobs)
            yield _padding(blob.length)
    yield bytes(2 * _TAR_BLOCK)


def write_archive(image: Image, blobs: Path, out: BinaryIO) -> None:
    """Write :func:`archive` to a file; raises as it does."""
    out.writelines(archive(image, blobs))


def _parts(image: Image) -> tuple[Blob, ...]:
    return (image.manifest, image.config, *image.layers)


def _check_parts(image: Image, blobs: Path) -> None:
    """The manifest lists this configuration and these layers, and the configuration as many diff ids."""
    listed = document(read_blob(image.manifest, blobs), OciManifest, what=image.manifest.sha256)
    digests = [listed.config.digest, *(layer.digest for layer in listed.layers)]
    if digests != [blob.sha256 for blob in (image.config, *image.layers)]:
        raise Invalid("the image manifest lists another configuration or other layers", element=image.manifest.sha256)
    if len(read_config(image, blobs).rootfs.diff_ids) != len(image.layers):
        raise Invalid("the configuration lists another number of layers", element=image.config.sha256)


def _header(path: str, length: int) -> bytes:
    tarfile = importlib.import_module("tarfile")  # only where an image is written: an idle agent does without
    info = tarfile.TarInfo(path)
    info.size, info.mode = length, 0o644
    header: bytes = info.tobuf(tarfile.GNU_FORMAT)
    return header


def _padding(length: int) -> bytes:
    return bytes(-length % _TAR_BLOCK)


def _member(path: str, data: bytes) -> bytes:
    return _header(path, len(data)) + data + _padding(len(data))
