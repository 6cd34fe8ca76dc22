"""What all devices of a run share: the engine, and images in it whose program each module brings along."""

import io
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import docker
from docker.errors import APIError

from modules import manifest, samples
from modules.digests import sha256
from modules.manifest import EntryScript, File, Image, Manifest, Needs, Proof, Runtime
from modules.oci import DockerImage, document
from tests.doubles.blob_server import BlobServer
from tests.doubles.release import RIGHT, Release
from tests.parts import docker as parts

QUESTION = b'{"x": [1.0]}'
PLAIN = Path(__file__).with_name("plain.py").read_bytes()
RUNS_A_SCRIPT = """FROM python:3.11-slim
ENTRYPOINT ["python", "-u", "/module/files/source/score.py"]
"""


class Held(NamedTuple):
    """An image that the engine holds: as a manifest names it, and the documents of it that a device pulls."""

    image: Image
    documents: tuple[bytes, ...]


class Ground(NamedTuple):
    """``socket`` is the engine's, ``client`` its own client, ``held`` the image of a module that brings no other."""

    socket: str
    client: docker.DockerClient
    held: Held

    def release(
        self, script: str, name: str = "evil", *, held: Held | None = None, needs: Needs | None = None, **proof
    ) -> Release:
        """A signed module of this script, whose one sample expects the right answer; ``proof`` is the manifest's."""
        server = BlobServer()
        used = held or self.held
        for one in used.documents:
            server.add(one)
        sample = samples.Sample(name="one", body=QUESTION, answer=RIGHT)
        files = {
            "source/score.py": script.encode(),
            "source/plain.py": PLAIN,
            "samples.json": samples.encode(samples.Samples((sample,))),
        }
        listed = []
        for path, data in files.items():
            blob = server.add(data)
            listed.append(File(path=path, sha256=blob.sha256, length=blob.length, blocks=blob.blocks))
        built = Manifest(
            team="acme",
            name=name,
            version="1",
            serve=EntryScript(script="source/score.py"),
            files=tuple(listed),
            runtimes=(Runtime(image=used.image),),
            needs=needs or Needs(memory_mb=64),
            proof=Proof(**{"ready_within_s": 3.0, "probation_s": 0.2} | proof),
        )
        data = manifest.encode(built)
        server.add(data)
        return Release(built, data, server.blobs)


@contextmanager
def built(client: docker.DockerClient, dockerfile: str, **files: bytes) -> Iterator[Held]:
    """An image of this run alone, made without a registry; ``files`` lie beside the Dockerfile as ``<name>.tar``."""
    context = {"Dockerfile": f"{dockerfile}LABEL run={uuid.uuid4().hex}\n".encode()}
    context |= {f"{name}.tar": data for name, data in files.items()}
    image, _ = client.images.build(fileobj=io.BytesIO(tar(context)), custom_context=True, rm=True)
    try:
        yield _held(client, image.id)
    finally:
        with suppress(APIError):
            client.images.remove(image.id, force=True)


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _held(client: docker.DockerClient, image_id: str) -> Held:
    """Read out of what the engine saves; its layers stay where they are, for no device has to pull them."""
    server, found = BlobServer(), {}
    with TemporaryDirectory() as folder:
        path = parts.saved(client, image_id, Path(folder) / "saved.tar")
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.size < 1 << 20:
                    found[member.name] = archive.extractfile(member).read()
    (listed,) = document(found["manifest.json"], list[DockerImage], what="manifest.json")
    config = found[listed.config]
    # Docker's containerd store names an image by the digest of its manifest instead.
    named = next((one for one in found.values() if sha256(one) == image_id), config)
    image = Image(name="hostile", manifest=server.add(named), config=server.add(config), layers=())
    return Held(image, (named, config))
