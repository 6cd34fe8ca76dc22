"""Modules laid out on disk: ``modules/<hex>/manifest.json`` and ``files/<path>``, named by the manifest's digest.

A layout is made in a folder of another name and renamed when whole, so a module is there or it is not. Files are the
blob store's own, linked: a module costs its bytes once. Where the file system cannot link them, they are copied.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agent.blobs import BlobStore
from agent.identity import sync_folder, write_private
from modules import manifest as manifests
from modules import samples as sample_files
from modules.digests import sha256
from modules.errors import Untrusted
from modules.manifest import Manifest
from modules.names import Digest
from modules.samples import Samples

_YOUNG_S: Final = 3600.0

# What a file system says that has no hard links, no more of them for this file, or none to another file system.
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})

_AGAIN: Final = "order the module again, with a waiver: it is fetched anew"


class Shelf:
    """The folder of modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        return self.folder / digest.removeprefix("sha256:")

    def keep_manifest(self, digest: Digest, data: bytes) -> Manifest:
        """Keep a manifest that trust has vouched for; it comes before its files.

        Raises:
            Untrusted, Invalid: as :meth:`read_manifest`.
        """
        manifest = self.read_manifest(digest, data)
        write_private(self._manifest(digest), data)
        return manifest

    def read_manifest(self, digest: Digest, data: bytes) -> Manifest:
        """A manifest that has just come, and is not kept yet.

        Raises:
            Untrusted: these are not the bytes of that digest.
            Invalid: they are no manifest.
        """
        if sha256(data) != digest:
            raise Untrusted("the manifest is not the one that was ordered", element=digest)
        return manifests.decode(data)

    def manifest(self, digest: Digest) -> Manifest:
        """The manifest of an ordered module.

        Raises:
            Untrusted: the file on disk was changed, or is gone.
        """
        try:
            data = self._manifest(digest).read_bytes()
        except OSError as error:
            raise Untrusted(
                f"the manifest cannot be read: {error.strerror}", element=str(self._manifest(digest)), remedy=_AGAIN
            ) from error
        if sha256(data) != digest:
            raise Untrusted("the manifest on disk was changed", element=str(self._manifest(digest)), remedy=_AGAIN)
        return manifests.decode(data)

    def _manifest(self, digest: Digest) -> Path:
        return self.path(digest).with_suffix(".manifest")

    def samples(self, digest: Digest, manifest: Manifest) -> Samples | None:
        """The stored samples; None where the module says ``ready-only``."""
        if manifest.proof.prove == "ready-only":
            return None
        return sample_files.decode((self.path(digest) / "files" / manifest.proof.samples).read_bytes())

    def lay_out(self, digest: Digest, manifest: Manifest, blobs: BlobStore) -> None:
        """Make the module's folder from whole blobs. Idempotent."""
        home = self.path(digest)
        if home.exists():
            return
        draft = home.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        for entry in manifest.files:
            target = draft / "files" / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(blobs.path(entry.sha256), target)
            target.chmod(0o444)
        draft.mkdir(parents=True, exist_ok=True)
        write_private(draft / "manifest.json", self._manifest(digest).read_bytes())
        (draft / "manifest.json").chmod(0o444)
        for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
            sync_folder(folder)
        draft.replace(home)
        sync_folder(self.folder)

    def prune(self, keep: Iterable[Digest]) -> None:
        """Forget every module but these, and young manifests: an order that is being verified may name them."""
        kept = {digest.removeprefix("sha256:") for digest in keep}
        young = time.time() - _YOUNG_S
        for path in self.folder.iterdir():
            if path.name.split(".")[0] in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.lstat().st_mtime < young:
                path.unlink()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
        with target.open("rb") as copied:
            os.fsync(copied.fileno())
