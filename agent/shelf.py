"""Modules laid out on disk: ``modules/<hex>/manifest.json`` and ``files/<path>``, named by the manifest's digest.

A layout is made in a folder of another name and renamed when whole, so a module is there or it is not. Files are the
blob store's own, linked: a module costs its bytes once. Where the file system cannot link them, they are copied.
"""

import errno
import os
import shutil
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from agent.blobs import BlobStore
from agent.identity import sync_folder, write_private
from modules import manifest as manifests
from modules import samples as sample_files
from modules.digests import measure_file, sha256
from modules.errors import Untrusted
from modules.manifest import File, Manifest
from modules.names import Digest
from modules.samples import Samples

_YOUNG_S: Final = 3600.0

# What a file system says that has no hard links, no more of them for this file, or none to another file system.
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})

# The manifest's name in the module's own folder.
_WITHIN: Final = "manifest.json"
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
        return manifests.decode(self._manifest_bytes(digest))

    def _manifest_bytes(self, digest: Digest) -> bytes:
        """Its bytes as they were ordered: a bad disk seldom takes both of the places where they are."""
        why = ""
        for path in (self._manifest(digest), self.path(digest) / _WITHIN):
            try:
                data = path.read_bytes()
            except OSError as error:
                why = why or str(error.strerror)
                continue
            if sha256(data) == digest:
                return data
            why = why or "it was changed"
        raise Untrusted(f"the manifest cannot be used: {why}", element=str(self._manifest(digest)), remedy=_AGAIN)

    def _manifest(self, digest: Digest) -> Path:
        return self.path(digest).with_suffix(".manifest")

    def samples(self, digest: Digest, manifest: Manifest) -> Samples | None:
        """The stored samples; None where the module says ``ready-only``."""
        if manifest.proof.prove == "ready-only":
            return None
        return sample_files.decode((self.path(digest) / "files" / manifest.proof.samples).read_bytes())

    def lacking(self, digest: Digest, manifest: Manifest, *, read: bool = False) -> tuple[File, ...]:
        """The files of a laid out module that are lost, or cut: all, where there is no such module.

        With ``read`` also those whose bytes a bad disk has changed, which takes as long as reading them all.
        """
        home = self.path(digest) / "files"
        return tuple(entry for entry in manifest.files if not _is_there(home / entry.path, entry, read=read))

    def lay_out(
        self, digest: Digest, manifest: Manifest, blobs: BlobStore, lacking: Sequence[File] | None = None
    ) -> None:
        """Make the module's folder from whole blobs, or put back what it lacks; None: look first. Idempotent."""
        home = self.path(digest)
        if home.is_dir():
            self._put_back(digest, self.lacking(digest, manifest) if lacking is None else lacking, blobs)
            return
        draft = home.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        for entry in manifest.files:
            _put(blobs.path(entry.sha256), draft / "files" / entry.path)
        draft.mkdir(parents=True, exist_ok=True)
        self._write_manifest(digest, draft)
        _open_to_modules(draft)
        draft.replace(home)
        sync_folder(self.folder)

    def _put_back(self, digest: Digest, lacking: Sequence[File], blobs: BlobStore) -> None:
        """Each file in its place, for whoever runs from this folder has it mounted."""
        home = self.path(digest)
        named = (home / _WITHIN).is_file()
        for entry in lacking:
            _put_back(blobs.path(entry.sha256), home / "files" / entry.path)
        if not named:
            self._write_manifest(digest, home)
        if lacking or not named:
            _open_to_modules(home)

    def _write_manifest(self, digest: Digest, home: Path) -> None:
        write_private(home / _WITHIN, self._manifest_bytes(digest))
        (home / _WITHIN).chmod(0o444)

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


def _is_there(path: Path, entry: File, *, read: bool) -> bool:
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.length:
            return False
        return not read or measure_file(path)[0].sha256 == entry.sha256
    except OSError:
        return False


def _open_to_modules(home: Path) -> None:
    for folder in (home, *(path for path in home.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
        sync_folder(folder)


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _link(source, target)
    target.chmod(0o444)


def _put_back(source: Path, target: Path) -> None:
    whole = target.with_name(f".{target.name}")  # no file of a module begins with a dot
    whole.unlink(missing_ok=True)
    _put(source, whole)
    whole.replace(target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
        with target.open("rb") as copied:
            os.fsync(copied.fileno())
