"""What a real engine holds under our name is what was signed, whatever somebody tagged, removed or changed there."""

import contextlib
import io
import json
import tarfile

import docker
import docker.errors
import pytest

from fleet.blobs import Blobs
from fleet.refusals import TargetTrouble
from fleet.targets.container import content, specs
from fleet.targets.container.engine import translated
from fleet.targets.container.specs import Names
from fleet.targets.groups import Group
from modules.errors import Invalid, Untrusted
from modules.image_import import import_archive
from modules.names import Slug
from tests.parts import docker as docker_parts

pytestmark = pytest.mark.needs("docker")

TAG = "edgefleet.local/cloud-feedfeedfeed:0123456789abcdef"
THEIRS = "edgefleet-test/theirs:1"


@pytest.fixture
def engine():
    client = docker_parts.client()
    yield client
    for name in (TAG, THEIRS):
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.images.remove(name, force=True)
    client.close()


def tiny(engine, tmp_path, text):
    """An image of one file in the engine; its id."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("content")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    path = tmp_path / "root.tar"
    path.write_bytes(out.getvalue())
    answer = engine.api.import_image_from_file(str(path), repository="edgefleet-test/theirs", tag="1")
    return json.loads(answer.splitlines()[-1])["status"]


@pytest.fixture
def signed(engine, tmp_path):
    """A signed image whose bytes the server has, and the engine no more."""
    image_id = tiny(engine, tmp_path, f"signed {tmp_path}".encode())
    folder = tmp_path / "imported"
    folder.mkdir()
    image = import_archive(docker_parts.saved(engine, image_id, tmp_path / "saved.tar"), folder, name="tiny")
    engine.images.remove(image_id, force=True)
    blobs = Blobs(tmp_path / "blobs")
    for file in folder.iterdir():
        if file.is_file():
            blobs.put(file.read_bytes())
    return image, blobs


def test_a_tag_that_somebody_gave_to_other_content_is_ours_again(engine, tmp_path, signed):
    """What was signed is loaded and used by its id; the other image stays, under its own name."""
    image, blobs = signed
    other = tiny(engine, tmp_path, b"other content")
    engine.images.get(other).tag(*TAG.rsplit(":", 1))
    found = content.load(engine.api, image, blobs, tag=TAG)
    assert found["Id"] == image.config.sha256 != other
    assert engine.images.get(TAG).id == image.config.sha256
    assert engine.images.get(THEIRS).id == other
    # Without a name an engine's pruning would take it: one that somebody removed is given again.
    engine.images.get(TAG).tag(*THEIRS.rsplit(":", 1))
    engine.images.remove(TAG)
    content.load(engine.api, image, blobs, tag=TAG)
    assert engine.images.get(TAG).id == image.config.sha256


def test_bytes_that_were_changed_here_are_not_loaded(engine, signed):
    """The engine gets nothing of which a layer is another one than was signed."""
    image, blobs = signed
    path = blobs.path(image.layers[0].sha256)
    path.chmod(0o600)
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(Invalid):
        content.load(engine.api, image, blobs, tag=TAG)
    with pytest.raises(docker.errors.ImageNotFound):
        engine.images.get(image.config.sha256)


class Lying:
    """An engine that says of each image that it has the layers of another one."""

    def __init__(self, api):
        self._api = api

    def __getattr__(self, name):
        return getattr(self._api, name)

    def inspect_image(self, name):
        found = self._api.inspect_image(name)
        return found | {"RootFS": {"Layers": ["sha256:" + "0" * 64]}}


def test_an_engine_that_holds_other_layers_is_not_believed(engine, signed):
    """What it holds is compared with what was signed, whatever it is called."""
    image, blobs = signed
    content.load(engine.api, image, blobs, tag=TAG)
    with pytest.raises(Untrusted, match="other layers than were signed"):
        content.load(Lying(engine.api), image, blobs, tag=TAG)


@pytest.mark.parametrize(
    ("cores", "memory_mb", "words"), [(1.0, 1, "emory limit"), (1024.0, 64, "CPUs"), (0.01, 1 << 24, "")]
)
def test_limits_that_a_host_cannot_have_are_said(engine, cores, memory_mb, words):
    """Within what any endpoint may ask for, the engine's own word says what this host has; nothing is left."""
    names = Names("feedfeedfeed", Slug("digits"))
    group = Group(name="v1-12345678", version="v1", module="a/b:1", count=1, weight=0, memory_mb=memory_mb)
    image = docker_parts.python_slim(engine)
    body = specs.replica(names, group, 0, image=image, cpu_cores=cores, providers=(), volumes=())
    body["HostConfig"]["NetworkMode"] = "none"
    refused = pytest.raises(TargetTrouble, match=words) if words else contextlib.nullcontext()
    name = names.replica(group.name, 0)
    try:
        with refused, translated("unix://x"):
            engine.api.create_container_from_config(body, name=name)
        there = engine.containers.list(all=True, filters={"name": name})
        assert len(there) == (not words)
    finally:
        for one in engine.containers.list(all=True, filters={"name": name}):
            one.remove(force=True)
        for one in engine.volumes.list(filters={"name": names.whole}):
            one.remove()
