"""What a module needs on this disk: planned before the first byte, pulled, laid out, loaded, and forgotten again."""

import asyncio
import errno
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from agent.blobs import BlobStore
from agent.engines.contract import ContainerEngine
from agent.fetch import Puller
from agent.shelf import Shelf
from agent.slots import Slot
from modules.digests import Blob
from modules.errors import NoSpace
from modules.manifest import Image, Manifest
from modules.names import Digest

# Each telling of progress is a synced write.
_TELL_EVERY_S: Final = 1.0
_AT_ONCE: Final = 4


class Supply:
    """Brings files and images in, within the disk that there is."""

    def __init__(self, *, blobs: BlobStore, shelf: Shelf, puller: Puller, reserve: int, budget: int) -> None:
        self._blobs = blobs
        self._shelf = shelf
        self._puller = puller
        self._reserve = reserve
        self._budget = budget
        # An image that is being made sure of is not let go of meanwhile.
        self._images = asyncio.Lock()

    @property
    def detour(self) -> str:
        """Why blobs come over MQTT though there is a quicker way; empty where they do not."""
        return self._puller.detour

    async def fetch(
        self, manifest: Manifest, image: Image | None, engine: ContainerEngine | None, tell: Callable[[float], None]
    ) -> None:
        """Pull every blob of the module and of its image that is missing.

        Raises:
            NoSpace: they would not fit; nothing was fetched.
            TransferStalled, LinkLost: what arrived is kept, and the next call goes on from there.
            Invalid: a blob cannot be what was signed.
        """
        wanted: dict[Digest, Blob] = {entry.sha256: entry for entry in manifest.files}
        unpacked: dict[Path, int] = {}
        if image is not None and engine is not None:
            for document in (image.manifest, image.config):
                self._blobs.sound(document)
                await self._puller.blob(document, self._blobs)
            # Only with the signed configuration at hand can the engine's image be recognised.
            if not await engine.has_image(image, self._blobs.folder):
                wanted |= {layer.sha256: layer for layer in image.layers}
                if store := await engine.image_store():
                    # The engine keeps the archive beside what it unpacks, until it has done.
                    signed = 0 if image.unpacked_bytes is msgspec.UNSET else image.unpacked_bytes
                    unpacked[store] = signed + sum(layer.length for layer in image.layers)
        missing = [blob for blob in wanted.values() if not self._blobs.has(blob)]
        self._plan_space({self._blobs.folder: sum(blob.length for blob in missing)}, unpacked)
        total = sum(blob.length for blob in missing) or 1
        gained, told = 0, time.monotonic()

        def progress(gain: int) -> None:
            nonlocal gained, told
            gained += gain
            if time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                tell(min(gained / total, 1.0))

        at_once = asyncio.Semaphore(_AT_ONCE)

        async def pull(blob: Blob) -> None:
            async with at_once:
                await self._puller.blob(blob, self._blobs, progress)

        pulls = [asyncio.create_task(pull(blob), name=f"pull-{blob.sha256[7:15]}") for blob in missing]
        try:
            await asyncio.gather(*pulls)
        finally:
            for task in pulls:
                task.cancel()
            await asyncio.gather(*pulls, return_exceptions=True)

    def _plan_space(self, fetched: Mapping[Path, int], unpacked: Mapping[Path, int]) -> None:
        """Bytes by the folder that they go to; folders on one disk share what is free there."""
        disks: dict[object, list[tuple[Path, int, str]]] = {}
        for folders, done in ((fetched, "fetched"), (unpacked, "unpacked")):
            for folder, need in folders.items():
                disks.setdefault(_disk(folder), []).append((folder, need, done))
        for parts in disks.values():
            need = sum(one for _, one, _ in parts)
            free = shutil.disk_usage(parts[0][0]).free - self._reserve
            if need > free:
                what = " and ".join(done for _, _, done in parts)
                raise NoSpace(
                    f"{need >> 20} MiB are to be {what} and {max(free, 0) >> 20} are free beyond the reserve",
                    element=", ".join(str(folder) for folder, _, _ in parts),
                    remedy="free disk space; the pull goes on by itself",
                )

    def lay_out(self, digest: Digest, manifest: Manifest, *, read: bool = False) -> None:
        """Make the module's folder, or put back what it has lost; with ``read`` what was changed as well. Blocking.

        Raises:
            FileNotFoundError: a file is not here, or not with the bytes that came; fetch again.
        """
        lacking = self._shelf.lacking(digest, manifest, read=read)
        self._require(lacking)
        self._shelf.lay_out(digest, manifest, self._blobs, lacking)

    async def mend(self, digest: Digest, manifest: Manifest, *, read: bool) -> None:
        """See that the files of a module that ran here are all there: from the blobs here, else from the server.

        Raises:
            LinkLost, TransferStalled: one is neither here nor to be had now.
            Invalid, NoSpace: as :meth:`fetch` says.
            OSError: it cannot be put in its place.
        """
        try:
            await asyncio.to_thread(self.lay_out, digest, manifest, read=read)
        except FileNotFoundError:
            await self.fetch(manifest, None, None, lambda _: None)
            await asyncio.to_thread(self.lay_out, digest, manifest, read=read)

    async def load(self, image: Image, engine: ContainerEngine) -> None:
        """See that the engine holds the image.

        Raises:
            FileNotFoundError: the engine has lost it since, and its layers are not here, or not with the bytes that
                came; fetch again.
            Untrusted, Invalid, NoSpace: as the engine's contract says.
        """
        async with self._images:
            self._require((image.manifest, image.config))
            if await engine.has_image(image, self._blobs.folder):
                await engine.keep_image(image)
                # Another device on this engine may have let it go just before it had our name.
                if await engine.has_image(image, self._blobs.folder):
                    return
            await asyncio.to_thread(self._require, image.layers)
            await engine.load_image(image, self._blobs.folder)

    def _require(self, blobs: Iterable[Blob]) -> None:
        # A manifest may name the same bytes a thousand times: they are read once.
        for blob in {one.sha256: one for one in blobs}.values():
            if not self._blobs.sound(blob):
                raise FileNotFoundError(errno.ENOENT, "this blob is missing here", blob.sha256)

    async def ensure(self, manifest: Manifest, image: Image, engine: ContainerEngine) -> None:
        """See that the engine holds an image that ran here before: from the blobs here, else from the server.

        Raises:
            LinkLost, TransferStalled: a layer is neither here nor to be had now.
            Untrusted, Invalid, NoSpace: as the engine's contract says.
        """
        try:
            await self.load(image, engine)
        except FileNotFoundError:
            await self.fetch(manifest, image, engine, lambda _: None)
            await self.load(image, engine)

    async def let_go(self, engine: ContainerEngine, slots: Callable[[], Iterable[Slot]]) -> None:
        """See that the engine has this device's name on the images that a slot may need, and on no others.

        ``slots`` is asked once no image is being loaded: a slot may have been ordered meanwhile.
        """
        async with self._images:
            manifests = [self._shelf.manifest(digest) for digest in _named(slots())]
            keep = [one.image for manifest in manifests for one in manifest.runtimes if one.image is not None]
            for image in keep:
                await engine.keep_image(image)  # one that came before devices had names of their own
            await engine.let_go_images(keep)

    def prune(self, slots: Iterable[Slot]) -> None:
        """Forget modules that no slot names, and the oldest unnamed blobs above the budget. Blocking."""
        named = _named(slots)
        keep: set[Digest] = set()
        for digest in named:
            manifest = self._shelf.manifest(digest)
            keep |= {entry.sha256 for entry in manifest.files}
            for runtime in manifest.runtimes:
                if runtime.image is not None:
                    # Its layers, too, where they are here: an engine's images can be removed by anybody.
                    image = runtime.image
                    keep |= {blob.sha256 for blob in (image.manifest, image.config, *image.layers)}
        self._shelf.prune(named)
        self._blobs.prune(keep, self._budget)


def _named(slots: Iterable[Slot]) -> set[Digest]:
    """The modules that run, that are to run, or that a revert may need."""
    found = {slot.wanted.digest for slot in slots}
    return found | {one.wanted.digest for slot in slots for one in (slot.candidate, slot.current, slot.previous) if one}


def _disk(folder: Path) -> object:
    """The same for folders that share what is free."""
    return folder.stat().st_dev
