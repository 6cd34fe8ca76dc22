"""The publisher's own copies: image blobs, the list of images, and each module version as it was packed.

::

    workspace/
      images.json                          the images by name
      environments.json                    names of those that were made for the packages of one script
      engine.json                          the ids under which an engine held an image, with that image's config
      blobs/                               OCI blobs, as modules.images stores them
      modules/<team>/<name>/<version>/     manifest.json and files/: the very bytes that will be signed
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fleet.client.new_file import replace_file
from modules import canonical, manifest
from modules.digests import Blob
from modules.errors import Invalid, NeedsOperator
from modules.manifest import Image, Manifest
from modules.names import ModuleRef
from modules.oci import blob_path

MANIFEST: Final = "manifest.json"
FILES: Final = "files"
# What ``edgefleet images build`` makes where nobody gives another name.
SCORING_IMAGE: Final = "edgefleet-scoring:cpu"
_IMAGES_LIMIT: Final = 16 << 20
_SHOWN: Final = 5


class Workspace:
    """The folder ``root``; made when something is first kept in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def blobs(self) -> Path:
        """The folder of OCI blobs."""
        folder = self.root / "blobs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def images(self) -> tuple[Image, ...]:
        """Every image, by name.

        Raises:
            Invalid: the list was damaged.
        """
        file = self.root / "images.json"
        if not file.exists():
            return ()
        return canonical.decode(file.read_bytes(), tuple[Image, ...], limit=_IMAGES_LIMIT, what=str(file))

    def image(self, name: str | None) -> Image:
        """The image of that name; without one the only image that is not an environment's, or the usual scoring image.

        Raises:
            Invalid: there is no such image, or the choice is not clear.
        """
        images = {one.name: one for one in self.images()}
        known = ", ".join(images) or "none"
        bring = "bring it in with: edgefleet images build, or: edgefleet images add IMAGE"
        if name is None:
            made_for_one = self._environments()
            general = [one for one in images if one not in made_for_one] or list(images)
            if len(general) == 1:
                return images[general[0]]
            if SCORING_IMAGE in images:
                return images[SCORING_IMAGE]
            remedy = "say which: --image NAME" if images else f"{bring}; or use --engine process"
            raise Invalid(f"no single image to run in (there are: {known})", element="image", remedy=remedy)
        if name not in images:
            raise Invalid(
                f"no image of this name is in the workspace (there are: {known}); "
                "modules name images by digest, never by tag",
                element=name,
                remedy=bring,
            )
        return images[name]

    def keep_image(self, image: Image, *, environment: bool = False) -> None:
        """Add an image to the list, perhaps as an environment's; one of the same name is replaced."""
        with self._alone():
            images = {one.name: one for one in self.images()} | {image.name: image}
            self._write("images.json", [images[name] for name in sorted(images)])
            known = self._environments()
            if environment != (image.name in known):
                self._write("environments.json", sorted(known ^ {image.name}))

    def engine_ids(self) -> dict[str, str]:
        """The config's digest of each image that was brought in from an engine, by the engine's own id of it."""
        file = self.root / "engine.json"
        if not file.exists():
            return {}
        return canonical.decode(file.read_bytes(), dict[str, str], limit=_IMAGES_LIMIT, what=str(file))

    def keep_engine_id(self, engine_id: str, image: Image) -> None:
        """Remember what an engine calls an image: newer ones name it by a manifest of their own."""
        with self._alone():
            self._write("engine.json", self.engine_ids() | {engine_id: image.config.sha256})

    def _environments(self) -> frozenset[str]:
        file = self.root / "environments.json"
        if not file.exists():
            return frozenset()
        return frozenset(canonical.decode(file.read_bytes(), tuple[str, ...], limit=_IMAGES_LIMIT, what=str(file)))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lists are read and written by one command at a time, or the one would take away what the other adds."""
        self.root.mkdir(parents=True, exist_ok=True)
        held = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)

    def _write(self, name: str, content: object) -> None:
        replace_file(self.root / name, canonical.encode(content), 0o666)

    def forget_image(self, name: str) -> Image:
        """Take an image off the list, with the blobs that no other image has; returns it.

        Raises:
            Invalid: there is no such image.
            NeedsOperator: modules that are packed here run in it.
        """
        with self._alone():
            return self._forgotten(name)

    def _forgotten(self, name: str) -> Image:
        image = self.image(name)
        left = [one for one in self.images() if one.name != name]
        using = [str(ref) for ref in self.modules() if _runs_in(self.manifest(ref)[0], image)]
        if using and not any(one.manifest == image.manifest for one in left):
            raise NeedsOperator(
                f"it is in use by {', '.join(using[:_SHOWN])}" + (" and more" if len(using) > _SHOWN else ""),
                element=name,
                remedy="remove those modules first: edgefleet modules remove MODULE",
            )
        self._write("images.json", sorted(left, key=lambda one: one.name))
        self._write("environments.json", sorted(self._environments() - {name}))
        kept = {blob.sha256 for one in left for blob in _blobs(one)}
        for blob in _blobs(image):
            if blob.sha256 not in kept:
                blob_path(self.blobs, blob.sha256).unlink(missing_ok=True)
        return image

    def forget_module(self, ref: ModuleRef) -> None:
        """Remove the publisher's own files of a module version, where they are."""
        shutil.rmtree(self.module(ref), ignore_errors=True)

    def module(self, ref: ModuleRef) -> Path:
        """Where the publisher's own files of a module version are, there or not."""
        return self.root / "modules" / ref.team / ref.name / str(ref.version)

    def modules(self) -> list[ModuleRef]:
        """Every module version packed here."""
        folders = sorted((self.root / "modules").glob(f"*/*/*/{MANIFEST}"))
        return [ModuleRef.parse(f"{at.parts[-4]}/{at.parts[-3]}:{at.parts[-2]}") for at in folders]

    def manifest(self, ref: ModuleRef) -> tuple[Manifest, bytes]:
        """The manifest of a module version packed here, and its bytes.

        Raises:
            NeedsOperator: it was not packed on this machine.
            Invalid: the file was changed into something that is not a manifest.
        """
        file = self.module(ref) / MANIFEST
        if not file.exists():
            raise NeedsOperator(
                "the publisher's own files of this module are not in this workspace",
                element=str(ref),
                remedy=f"run this where it was registered, or bring its folder to {file.parent}",
            )
        data = file.read_bytes()
        return manifest.decode(data), data

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A fresh folder on the workspace's own disk; what is still there at the end is removed."""
        parent = self.root / "staging"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def expect_free(self, ref: ModuleRef) -> None:
        """Nothing of that name and version is packed here yet.

        Raises:
            NeedsOperator: something is, from another server for instance.
        """
        place = self.module(ref)
        if place.exists():
            raise NeedsOperator(
                "another module of this name and version is in the workspace",
                element=str(place),
                remedy="move that folder away, or set EDGEFLEET_HOME to a workspace of its own for each fleet server",
            )

    def keep_module(self, ref: ModuleRef, folder: Path) -> Path:
        """Move a staged folder to its place, which :meth:`expect_free` has seen; returns the place."""
        place = self.module(ref)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)
        return place


def _runs_in(module: Manifest, image: Image) -> bool:
    return any(one.image is not None and one.image.manifest == image.manifest for one in module.runtimes)


def _blobs(image: Image) -> Iterator[Blob]:
    yield image.manifest
    yield image.config
    yield from image.layers
