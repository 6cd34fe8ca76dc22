import gzip
import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from docker.errors import ImageNotFound

from agent.engines.docker import DockerEngine
from agent.engines.docker_api import DockerApi
from agent.engines.docker_images import load_image
from agent.installation import Installation
from modules.digests import measure_bytes
from modules.errors import Invalid, Untrusted
from modules.image_import import import_archive
from modules.images import archive, archive_tag
from modules.manifest import Image
from modules.names import device_id
from modules.oci import blob_path, manifest_bytes
from tests.parts import docker as parts

pytestmark = pytest.mark.needs("docker")


def one_file(path: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(path)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def blobs(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return folder


@pytest.fixture
def tiny(engine_client, tmp_path, blobs):
    """A small image in the engine and as blobs; its content is different in each test."""
    path = tmp_path / "root.tar"
    path.write_bytes(one_file("content", str(tmp_path).encode()))
    answer = engine_client.api.import_image_from_file(str(path), repository="edgefleet-test/tiny", tag="1")
    image_id = json.loads(answer.splitlines()[-1])["status"]
    image = import_archive(parts.saved(engine_client, image_id, tmp_path / "saved.tar"), blobs, name="tiny")
    yield image
    for name in (archive_tag(image), "edgefleet-test/tiny:1", image_id):
        with suppress(ImageNotFound):
            engine_client.images.remove(name)


def ids(engine_client) -> set[str]:
    return {image.id for image in engine_client.images.list(all=True)}


def keep(blobs, data: bytes):
    blob = measure_bytes(data)
    blob_path(blobs, blob.sha256).write_bytes(data)
    return blob


@pytest.mark.long
async def test_round_trip(docker_engine, engine_client, launch, probe, ended):
    """An image that the engine has lost comes back from its blobs under the same id, and starts."""
    image, blobs = probe
    (name,) = engine_client.images.get(image.config.sha256).tags
    engine_client.images.remove(image.config.sha256, force=True)
    assert not await docker_engine.has_image(image, blobs)

    await docker_engine.load_image(image, blobs)

    assert await docker_engine.has_image(image, blobs)
    engine_client.images.get(image.config.sha256).tag(name)  # other tests use it
    await docker_engine.start(launch("print('up')"))
    ended("camera-01234567-1")
    assert await docker_engine.logs("camera-01234567-1", tail_bytes=10) == "up\n"


async def test_changed_blob(docker_engine, engine_client, tiny, blobs):
    """A layer that was changed on disk is never loaded, and the engine keeps nothing of it."""
    engine_client.images.remove(tiny.config.sha256, force=True)
    path = blob_path(blobs, tiny.layers[0].sha256)
    path.write_bytes(
        gzip.compress(one_file("content", b"evil")).ljust(tiny.layers[0].length, b"\0")[: tiny.layers[0].length]
    )

    with pytest.raises(Invalid, match=r"changed on disk|not what"):
        await docker_engine.load_image(tiny, blobs)

    assert tiny.config.sha256 not in ids(engine_client)


async def test_layers_that_the_configuration_does_not_list(docker_engine, engine_client, tiny, blobs):
    """Layers that are signed but are not those of the configuration are refused for good, and nothing is left."""
    engine_client.images.remove(tiny.config.sha256, force=True)
    layer = keep(blobs, gzip.compress(one_file("content", b"evil")))
    image = Image(
        name="evil", config=tiny.config, layers=(layer,), manifest=keep(blobs, manifest_bytes(tiny.config, [layer]))
    )

    with pytest.raises(Untrusted, match="refused"):
        await docker_engine.load_image(image, blobs)

    assert tiny.config.sha256 not in ids(engine_client)
    assert not await docker_engine.has_image(image, blobs)


async def test_what_the_engine_made_is_looked_at(docker_engine, engine_client, tiny, blobs, monkeypatch):
    """If the engine ends up with something else than was signed, that is removed again."""
    engine_client.images.remove(tiny.config.sha256, force=True)
    layer_tar = one_file("content", b"other")
    config = keep(
        blobs,
        json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [measure_bytes(layer_tar).sha256]},
            }
        ).encode(),
    )
    layer = keep(blobs, gzip.compress(layer_tar))
    other = Image(name="other", config=config, layers=(layer,), manifest=keep(blobs, manifest_bytes(config, [layer])))
    sent = b"".join(archive(other, blobs))
    monkeypatch.setattr("agent.engines.docker_images.archive", lambda *_, **__: iter([sent]))

    with pytest.raises(Untrusted, match="does not hold what was signed"):
        await docker_engine.load_image(tiny, blobs)

    assert not {tiny.config.sha256, other.config.sha256} & ids(engine_client)


async def test_a_tag_is_no_proof(docker_engine, engine_client, tiny, blobs):
    """An image under the right tag with another content is not the signed one."""
    other = measure_bytes(b"another configuration")
    signed = msgspec.structs.replace(tiny, config=other, manifest=measure_bytes(b"another manifest"))
    repository, _, tag = archive_tag(signed).rpartition(":")
    engine_client.images.get(tiny.config.sha256).tag(repository, tag)

    assert not await docker_engine.has_image(signed, blobs)


async def test_the_layers_are_compared(docker_engine, tiny, blobs):
    """The right id alone is not enough: the layers that the engine reports must be the signed configuration's."""
    assert await docker_engine.has_image(tiny, blobs)

    blob_path(blobs, tiny.config.sha256).unlink()

    assert not await docker_engine.has_image(tiny, blobs)


def other_device(engine_socket):
    """An agent of another installation; even with one name for both devices, images are each one's own."""
    other = Installation(id="0" * 12, modules=Path("/nowhere"))
    return DockerEngine(device_id("another-device"), other, DockerApi(engine_socket))


async def test_what_was_loaded_goes_when_nobody_needs_it(docker_engine, engine_client, tiny, blobs):
    """An image that this device loaded is deleted when it lets go; while it is to be kept it stays. Twice is fine."""
    engine_client.images.remove(tiny.config.sha256, force=True)
    await docker_engine.load_image(tiny, blobs)

    await docker_engine.let_go_images([tiny])
    assert await docker_engine.has_image(tiny, blobs)
    for _ in range(2):
        await docker_engine.let_go_images([])
        assert not await docker_engine.has_image(tiny, blobs)


async def test_another_devices_image_stays(docker_engine, engine_socket, engine_client, tiny, blobs):
    """Of two devices on one engine the image goes with the second that lets go of it, whoever loaded it."""
    engine_client.images.remove(tiny.config.sha256, force=True)
    other = other_device(engine_socket)
    await other.load_image(tiny, blobs)
    await docker_engine.keep_image(tiny)

    await other.let_go_images([])
    assert await docker_engine.has_image(tiny, blobs)
    await docker_engine.let_go_images([])
    assert not await docker_engine.has_image(tiny, blobs)


async def test_a_persons_image_stays(docker_engine, engine_client, tiny, blobs):
    """What a person has named, brought in by hand or only built stays, however often this device used it."""
    await docker_engine.keep_image(tiny)
    await docker_engine.let_go_images([])
    assert engine_client.images.get("edgefleet-test/tiny:1").id == tiny.config.sha256
    assert engine_client.images.get(tiny.config.sha256).tags == ["edgefleet-test/tiny:1"]

    engine_client.images.remove(tiny.config.sha256, force=True)
    load_image(docker_engine._api, tiny, blobs, reserve=0)
    await docker_engine.keep_image(tiny)
    await docker_engine.let_go_images([])
    assert engine_client.images.get(tiny.config.sha256).tags == [archive_tag(tiny)]


@pytest.mark.long
async def test_what_nobody_has_named_stays(docker_engine, engine_client, probe, tiny, blobs):
    """An image without any name, as of a build after which a newer one took its name, is somebody's who knows why."""
    engine_client.images.get(probe[0].config.sha256).tag("edgefleet-test/tiny:1")
    assert engine_client.images.get(tiny.config.sha256).tags == []
    await docker_engine.keep_image(tiny)
    await docker_engine.let_go_images([])

    assert await docker_engine.has_image(tiny, blobs)


async def test_what_a_container_uses_stays(docker_engine, engine_client, tiny, blobs):
    """An image goes only after the last container of it, whoever started that."""
    engine_client.images.remove(tiny.config.sha256, force=True)
    await docker_engine.load_image(tiny, blobs)
    container = engine_client.containers.create(tiny.config.sha256, ["x"])
    try:
        await docker_engine.let_go_images([])
        assert await docker_engine.has_image(tiny, blobs)
    finally:
        container.remove()
    await docker_engine.let_go_images([])

    assert not await docker_engine.has_image(tiny, blobs)
