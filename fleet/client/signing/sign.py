"""Signing a draft: the publisher's own files are hashed again, and only what they say gets the team's signature."""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from securesystemslib.signer import Signer

from fleet.client.answers import Module
from fleet.client.api import Fleet
from fleet.client.publishing.pack import check_files
from fleet.client.screen import Step
from fleet.client.signing.trusted import Trusted
from fleet.client.workspace import Workspace
from modules.digests import sha256
from modules.errors import Refused, Untrusted
from modules.manifest import Manifest
from modules.names import ModuleRef
from modules.oci import checked_blob
from modules.trust import team_files

_ATTEMPTS: Final = 5


def check_own(ref: ModuleRef, workspace: Workspace, step: Step) -> bytes:
    """The bytes of the workspace's manifest, once every file and image blob has been hashed again.

    Raises:
        NeedsOperator: the module was not packed on this machine.
        Invalid: a file or blob is not the one that the manifest names.
    """
    manifest, data = workspace.manifest(ref)
    check_files(manifest, workspace.module(ref), step)
    _check_images(manifest, workspace, step)
    return data


def check_draft(ref: ModuleRef, data: bytes, fleet: Fleet) -> Module:
    """The server's module, which must be these very bytes.

    Raises:
        Untrusted: the server has something else under this name.
        EdgefleetError: as :class:`Fleet`.
    """
    module = fleet.module(ref)
    if module.digest != sha256(data) or fleet.manifest(ref) != data:
        raise Untrusted(
            f"the server has {module.digest}, your own files say {sha256(data)}", element=str(ref),
            remedy="do not sign it; register the model again, and find out who changed it",
        )  # fmt: skip
    return module


def sign(
    ref: ModuleRef,
    *,
    signers: Sequence[Signer],
    fleet: Fleet,
    trusted: Trusted,
    workspace: Workspace,
    step: Step,
) -> Module:
    """Add the module to what its team has published; again where somebody else signed in between.

    Raises:
        NeedsOperator, Invalid: as :func:`check_own`.
        Untrusted: the server's draft or its metadata is not what it should be.
        EdgefleetError: as :class:`Fleet`.
    """
    data = check_own(ref, workspace, step)
    check_draft(ref, data, fleet)
    for attempt in range(1, _ATTEMPTS + 1):
        step("signing", 0, 0)
        present = trusted.team_files(ref)
        signed = team_files.release(
            present,
            team=ref.team,
            path=ref.target,
            data=data,
            targets=trusted.targets_metadata(),
            signers=signers,
            now=datetime.now(UTC),
        )
        if not signed:
            break
        try:
            fleet.put_team_files(ref.team, signed)
            break
        except Refused:
            if attempt == _ATTEMPTS or trusted.team_files(ref) == present:
                raise
    return fleet.module(ref)


def _check_images(manifest: Manifest, workspace: Workspace, step: Step) -> None:
    images = [runtime.image for runtime in manifest.runtimes if runtime.image is not None]
    blobs = {blob for image in images for blob in (image.manifest, image.config, *image.layers)}
    total, done = sum(blob.length for blob in blobs), 0
    for blob in blobs:
        deque(checked_blob(blob, workspace.blobs), maxlen=0)
        done += blob.length
        step("hashing the image", done, total)
