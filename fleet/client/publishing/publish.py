"""A packed module to the fleet server: the blobs it has not got, then the manifest, as a draft."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from fleet.client.answers import Module
from fleet.client.api import Fleet
from fleet.client.publishing.pack import write_manifest
from fleet.client.screen import Step
from fleet.client.workspace import FILES, Workspace
from modules.digests import Blob, sha256
from modules.errors import EdgefleetError, Invalid, LinkLost, Untrusted
from modules.manifest import File, Image, Manifest
from modules.names import Digest
from modules.oci import blob_path

_CHUNK: Final = 1 << 20


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A draft on the server and, in the workspace, the very bytes it consists of; ``uploaded`` in bytes."""

    module: Module
    manifest: Manifest
    folder: Path
    uploaded: int


def publish(manifest: Manifest, folder: Path, fleet: Fleet, workspace: Workspace, step: Step) -> Registered:
    """Give a staged module its number, send it as a draft, and keep its folder in the workspace.

    The number is reserved last, so that nothing that failed before uses one up.

    Raises:
        Invalid, NeedsOperator, Untrusted: as the steps below.
        EdgefleetError: as :class:`Fleet`.
    """
    wanted = file_blobs(manifest.files, folder)
    for runtime in manifest.runtimes:
        if runtime.image is not None:
            wanted |= image_blobs(runtime.image, workspace.blobs)
    uploaded = upload(wanted, fleet, step)
    numbered = msgspec.structs.replace(manifest, version=fleet.reserve_version(manifest.team, manifest.name))
    workspace.expect_free(numbered.ref)
    data = write_manifest(numbered, folder)
    # Kept first: a draft whose answer nobody waits for any more can still be signed from here.
    place = workspace.keep_module(numbered.ref, folder)
    try:
        module = put_draft(numbered, data, fleet)
    except EdgefleetError as error:
        if not isinstance(error, LinkLost):
            workspace.forget_module(numbered.ref)
        raise
    return Registered(module=module, manifest=numbered, folder=place, uploaded=uploaded)


def file_blobs(files: tuple[File, ...], folder: Path) -> dict[Digest, tuple[Blob, Path]]:
    """Where the bytes of a module's files are."""
    return {entry.sha256: (entry, folder / FILES / entry.path) for entry in files}


def image_blobs(image: Image, blobs: Path) -> dict[Digest, tuple[Blob, Path]]:
    """Where the bytes of an image are: its manifest, configuration and layers."""
    parts = (image.manifest, image.config, *image.layers)
    return {blob.sha256: (blob, blob_path(blobs, blob.sha256)) for blob in parts}


def upload(wanted: dict[Digest, tuple[Blob, Path]], fleet: Fleet, step: Step) -> int:
    """Send the blobs that the server does not have; returns how many bytes that were.

    Raises:
        Invalid: a file is missing, or is shorter or longer than it should be.
        EdgefleetError: as :class:`Fleet`.
    """
    missing = [(blob, path) for digest, (blob, path) in wanted.items() if not fleet.has_blob(digest)]
    total, done = sum(blob.length for blob, _ in missing), 0
    for blob, path in missing:
        if not path.is_file() or path.stat().st_size != blob.length:
            raise Invalid("the blob's file is missing or has changed", element=str(path), remedy="bring it in again")
        fleet.put_blob(blob.sha256, blob.length, _chunks(path, done, total, step))
        done += blob.length
    return total


def _chunks(path: Path, before: int, total: int, step: Step) -> Iterator[bytes]:
    done = before
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
            done += len(chunk)
            step("uploading", done, total)


def put_draft(manifest: Manifest, data: bytes, fleet: Fleet) -> Module:
    """Register the manifest; the server must have understood the very bytes that will be signed.

    Raises:
        Untrusted: it says another digest.
        EdgefleetError: as :class:`Fleet`.
    """
    module = fleet.put_draft(manifest.ref, data)
    if module.digest != sha256(data):
        raise Untrusted(
            f"the server registered {module.digest}, not {sha256(data)}", element=str(manifest.ref),
            remedy="do not sign it; ask who changes bytes on the way",
        )  # fmt: skip
    return module
