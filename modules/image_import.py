"""Reading the archive that an engine saves (``docker save``, ``podman save``) into blobs, in one pass.

The archive may be a docker archive (Docker before 25, Podman), an OCI layout, or both at once, plain or compressed, and
may come through a pipe: so every member that could be a layer becomes a blob as it passes, and what the archive's own
list does not name is forgotten at the end. Layers that come uncompressed are compressed here, with the same zlib always
to the same bytes (level 6, no time, no name); layers that come as gzip stay as they are.
"""

import hashlib
import os
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol, TypeVar

import msgspec

from modules.digests import BLOCK, Blob, measure, read_blocks
from modules.errors import Invalid
from modules.manifest import Image
from modules.oci import (
    DOCUMENT_LIMIT,
    Config,
    DockerImage,
    OciIndex,
    OciManifest,
    archive_path,
    blob_path,
    document,
    manifest_bytes,
)

LEVEL: Final = 6
# zlib's window of 32 KiB (15) with a gzip header around it (16), which then has no time and no name.
_GZIP: Final = 31
_CHUNK: Final = 1 << 20
_MAX_DOCUMENTS: Final = 4096
_TAR_MAGIC: Final = slice(257, 262)

T = TypeVar("T")


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class _Layer(msgspec.Struct, frozen=True):
    """A layer as a blob at a passing place; ``diff_id`` is the digest of its uncompressed bytes."""

    blob: Blob
    index: bytes
    diff_id: str
    place: Path


def import_archive(source: Path | BinaryIO, blobs: Path, *, name: str = "") -> Image:
    """Store the one image of an archive as blobs in the folder ``blobs``, each beside its block index.

    Args:
        source: the archive's path, or a stream of it (a pipe will do).
        blobs: an existing folder; a blob is a file named by the hex digits of its digest.
        name: for people; the archive's first tag if not given.

    Raises:
        Invalid: not such an archive, several images in it, or a layer that is not the one its configuration lists.
    """
    with tempfile.TemporaryDirectory(prefix=".import-", dir=blobs) as scratch:
        found = _Archive(Path(scratch))
        if isinstance(source, Path):
            with source.open("rb") as stream:
                found.read(stream)
        else:
            found.read(source)
        tag, config_path, layer_paths = _listed(found)
        config_bytes = found.document(config_path)
        expected = document(config_bytes, Config, what=config_path).rootfs.diff_ids
        layers = [found.layer(path) for path in layer_paths]
        if len(layers) != len(expected):
            raise Invalid(f"{len(layers)} layers where the configuration lists {len(expected)}", element=config_path)
        for path, layer, diff_id in zip(layer_paths, layers, expected, strict=True):
            if layer.diff_id != diff_id:
                raise Invalid(f"this layer is {layer.diff_id}, the configuration lists {diff_id}", element=path)
        for layer in layers:
            _keep(layer.blob, layer.index, layer.place, blobs)
        config = _keep_document(config_bytes, Path(scratch), blobs)
        layer_blobs = tuple(layer.blob for layer in layers)
        manifest = _keep_document(manifest_bytes(config, layer_blobs), Path(scratch), blobs)
    return Image(name=name or tag or config.sha256, manifest=manifest, config=config, layers=layer_blobs)


class _Archive:
    """What one pass over the tar found; layers wait in the folder ``scratch``."""

    def __init__(self, scratch: Path) -> None:
        self.documents: dict[str, bytes] = {}
        self._scratch = scratch
        self._layers: dict[str, _Layer] = {}
        self._links: dict[str, str] = {}
        self._zstd: set[str] = set()

    def read(self, stream: BinaryIO) -> None:
        try:
            with tarfile.open(fileobj=stream, mode="r|*") as tar:
                for member in tar:
                    path = posixpath.normpath(member.name)
                    if member.issym():
                        self._links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
                    elif member.islnk():
                        self._links[path] = posixpath.normpath(member.linkname)
                    elif (content := tar.extractfile(member)) is not None:
                        self._take(path, content)
        except (tarfile.TarError, zlib.error, EOFError) as error:
            raise Invalid(
                f"this is not an image archive: {error}",
                element="archive",
                remedy="write one with docker save or podman save",
            ) from error

    def document(self, path: str) -> bytes:
        found = self.documents.get(self._resolved(path))
        if found is None:
            raise Invalid("the archive lists this document, and does not have it", element=path)
        return found

    def layer(self, path: str) -> _Layer:
        real = self._resolved(path)
        if real in self._zstd:
            raise Invalid(
                "this layer is compressed with zstd", element=path, remedy="save the image with gzip or plain layers"
            )
        if real not in self._layers:
            raise Invalid("the archive lists this layer, and does not have it", element=path)
        return self._layers[real]

    def _resolved(self, path: str) -> str:
        """Follow links inside the archive: Docker writes a layer that occurs twice as a link."""
        for _ in range(len(self._links) + 1):
            if path not in self._links:
                return path
            path = self._links[path]
        raise Invalid("a link in the archive leads back to itself", element=path)

    def _take(self, path: str, content: IO[bytes]) -> None:
        """Sort one member by its first bytes: a layer, a JSON document, or nothing of ours."""
        blocks = read_blocks(content)  # type: ignore[arg-type]  # tarfile says IO[bytes] for what is a BinaryIO
        head = next(blocks, b"")
        rest = chain([head], blocks)
        whole = hashlib.sha256()
        if head[_TAR_MAGIC] == b"ustar" or head[:1024] == bytes(1024):
            stored = _compressed(rest, whole)
        elif head.startswith(b"\x1f\x8b"):
            stored = _decompressed(rest, whole)
        elif head.startswith(b"\x28\xb5\x2f\xfd"):
            self._zstd.add(path)
            return
        else:
            if head[:1] in {b"{", b"["}:
                self.documents[path] = self._bounded(path, rest)
            return
        place = self._scratch / f"layer-{len(self._layers)}"
        blob, index = _write(_blocks(stored), place)
        self._layers[path] = _Layer(blob, index, "sha256:" + whole.hexdigest(), place)

    def _bounded(self, path: str, blocks: Iterable[bytes]) -> bytes:
        if len(self.documents) >= _MAX_DOCUMENTS:
            raise Invalid(f"more than {_MAX_DOCUMENTS} documents in it", element="archive")
        data = bytearray()
        for block in blocks:
            data += block
            if len(data) > DOCUMENT_LIMIT:
                raise Invalid(f"a document of more than {DOCUMENT_LIMIT} bytes", element=path)
        return bytes(data)


def _listed(found: _Archive) -> tuple[str, str, tuple[str, ...]]:
    """The one image's tag, the path of its configuration and those of its layers, lowest first."""
    if "manifest.json" in found.documents:
        image = _only(document(found.document("manifest.json"), list[DockerImage], what="manifest.json"))
        return next(iter(image.repo_tags or ()), ""), image.config, image.layers
    path, tag = "index.json", ""
    if path not in found.documents:
        raise Invalid(
            "neither manifest.json nor index.json is in it",
            element="archive",
            remedy="write it with docker save or podman save",
        )
    # The layout's index names a manifest, or an index of platforms that does.
    for _ in range(3):
        data = found.document(path)
        if "manifests" not in document(data, dict[str, msgspec.Raw], what=path):
            manifest = document(data, OciManifest, what=path)
            layers = tuple(archive_path(layer.digest) for layer in manifest.layers)
            return tag, archive_path(manifest.config.digest), layers
        # BuildKit puts statements about an image beside it, which are no images.
        listed = document(data, OciIndex, what=path).manifests
        entry = _only([one for one in listed if "vnd.docker.reference.type" not in one.annotations])
        tag = tag or entry.annotations.get("io.containerd.image.name", "")
        path = archive_path(entry.digest)
    raise Invalid("an index in an index in an index", element=path)


def _only(images: list[T]) -> T:
    if len(images) != 1:
        raise Invalid(f"{len(images)} images in it", element="archive", remedy="save one image, for one platform")
    return images[0]


def _compressed(blocks: Iterable[bytes], whole: _Hash) -> Iterator[bytes]:
    """The blocks as gzip; ``whole`` sees them before."""
    deflate = zlib.compressobj(LEVEL, wbits=_GZIP)
    for block in blocks:
        whole.update(block)
        yield deflate.compress(block)
    yield deflate.flush()


def _decompressed(blocks: Iterable[bytes], whole: _Hash) -> Iterator[bytes]:
    """The gzip blocks as they are; ``whole`` sees what is in them, a bounded piece at a time."""
    inflate = zlib.decompressobj(_GZIP)
    for block in blocks:
        yield block
        data = block
        while data:
            if inflate.eof:
                # A gzip file may be several in a row.
                inflate = zlib.decompressobj(_GZIP)
            whole.update(inflate.decompress(data, _CHUNK))
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    while not inflate.eof:
        if not (piece := inflate.decompress(b"", _CHUNK)):
            raise EOFError("a compressed layer ends too early")
        whole.update(piece)


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks of any size as blocks of 64 KiB."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= BLOCK:
            yield bytes(waiting[:BLOCK])
            del waiting[:BLOCK]
    if waiting:
        yield bytes(waiting)


def _write(blocks: Iterable[bytes], place: Path) -> tuple[Blob, bytes]:
    """Write and measure a blob; it is on disk when this returns."""
    with place.open("xb") as out:

        def written() -> Iterator[bytes]:
            for block in blocks:
                out.write(block)
                yield block

        measured = measure(written())
        out.flush()
        os.fsync(out.fileno())
    return measured


def _keep(blob: Blob, index: bytes, place: Path, blobs: Path) -> None:
    """Give a blob its name in the folder, after its index has one: who sees the blob finds the index."""
    index_place = place.with_name(f"{place.name}.index")
    if not (named_index := blob_path(blobs, blob.blocks)).exists():
        _write([index] if index else [], index_place)
        index_place.replace(named_index)
    if not (named := blob_path(blobs, blob.sha256)).exists():
        place.replace(named)


def _keep_document(data: bytes, scratch: Path, blobs: Path) -> Blob:
    place = scratch / "document"
    place.unlink(missing_ok=True)
    blob, index = _write(_blocks([data]), place)
    _keep(blob, index, place, blobs)
    return blob
