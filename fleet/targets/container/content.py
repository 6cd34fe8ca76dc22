"""What a group's replicas are given: its image, loaded from our blobs and checked, and its files in a volume."""

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import docker
import docker.errors
import msgspec

from fleet.blobs import Blobs
from fleet.refusals import TargetTrouble
from fleet.targets.container.specs import ACCESS, USER
from fleet.targets.contract import Module
from fleet.targets.image_folder import image_folder
from modules.images import archive, check_held, image_ids, read_config
from modules.manifest import Image
from modules.oci import blob_path, checked_blob


def load(api: docker.APIClient, image: Image, blobs: Blobs, *, tag: str) -> dict[str, Any]:
    """Make sure that the engine holds the very image that was signed, under our name; what the engine says of it.

    Raises:
        TargetTrouble: after loading, it still does not hold it.
        Untrusted, Invalid: what it holds, or what lies here, is not what was signed.
    """
    with image_folder(blobs, image) as folder:
        config = read_config(image, folder)
        found = _held(api, image)
        if found is None:
            for said in api.load_image(archive(image, folder, tag=tag)):
                if "error" in said:
                    raise TargetTrouble(f"the engine could not load it: {said['error']}", element=f"image {image.name}")
            found = _held(api, image)
    if found is None:
        raise TargetTrouble(
            "after loading, the engine does not hold what was signed",
            element=f"image {image.name}",
            remedy="use an engine that keeps an image's digests (Docker, Podman)",
        )
    check_held(image, config, engine_id=found["Id"], engine_layers=found["RootFS"].get("Layers") or ())
    if tag not in (found.get("RepoTags") or ()):
        api.tag(found["Id"], tag.rpartition(":")[0], tag.rpartition(":")[2])
    return found


def files(module: Module, manifest: bytes, blobs: Blobs, *, key: str) -> IO[bytes]:
    """A tar of the volume: the module, each file checked as it passes, and the key of the gateway.

    Raises:
        Invalid: a file is missing, or has been changed on disk.
    """
    out = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    try:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            _folder(tar, "module")
            _file(tar, "module/manifest.json", manifest)
            made = set[str]()
            for file in module.manifest.files:
                for parent in reversed(Path("module/files", file.path).parents[:-1]):
                    if str(parent) not in made | {"module"}:
                        made.add(str(parent))
                        _folder(tar, str(parent))
                with _named(blobs, file.sha256) as folder, tempfile.TemporaryFile() as checked:
                    checked.writelines(checked_blob(file, folder))
                    checked.seek(0)
                    tar.addfile(_member(f"module/files/{file.path}", file.length, 0o444), checked)
            _file(tar, ACCESS, msgspec.json.encode({"keys": [key]}), mode=0o400)
    except BaseException:
        out.close()
        raise
    out.seek(0)
    return out


def packed(content: dict[str, bytes], *, folder: str) -> bytes:
    """A small tar: a folder of the gateway's user, with these files in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        if folder:
            _folder(tar, folder, mode=0o700)
        for name, data in content.items():
            _file(tar, f"{folder}/{name}" if folder else name, data, mode=0o600)
    return out.getvalue()


def _held(api: docker.APIClient, image: Image) -> dict[str, Any] | None:
    for name in image_ids(image):
        try:
            found: dict[str, Any] = api.inspect_image(name)
        except docker.errors.ImageNotFound:
            continue
        return found
    return None


@contextmanager
def _named(blobs: Blobs, digest: Any) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edgefleet-file-") as name:
        blob_path(Path(name), digest).symlink_to(blobs.path(digest))
        yield Path(name)


def _member(name: str, length: int, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uid, info.gid = length, mode, USER, USER
    return info


def _file(tar: tarfile.TarFile, name: str, data: bytes, *, mode: int = 0o444) -> None:
    tar.addfile(_member(name, len(data), mode), io.BytesIO(data))


def _folder(tar: tarfile.TarFile, name: str, *, mode: int = 0o755) -> None:
    info = _member(name, 0, mode)
    info.type = tarfile.DIRTYPE
    tar.addfile(info)
