"""What an engine may answer about images that a healthy one does not: each answer has its consequence."""

import gzip
import io
import tarfile
from types import SimpleNamespace

import msgspec
import pytest

from agent.engines import docker_images
from agent.engines.docker_api import ApiError
from agent.engines.docker_images import Names
from modules import canonical
from modules.digests import measure_bytes
from modules.errors import EngineBusy, Invalid, NoSpace, Untrusted
from modules.oci import blob_path
from tests.doubles.release import make

IMAGE = make().manifest.runtimes[0].image
ID = IMAGE.config.sha256


class Engine:
    """Stands for ``DockerApi``: what it shows and what goes wrong, a test says; what it removed, it remembers."""

    store = named_wrong = None
    id = ID

    def __init__(self, *, tags=None, wrong=None, **more):
        self.tags, self.wrong, self.more, self.removed, self.posted = tags, wrong, more, [], []

    def _answer(self):
        if self.wrong:
            raise self.wrong

    def get(self, path):
        self._answer()
        if path == "/info":
            return {"DockerRootDir": self.store}
        if path == "/images/json":
            return [{"Id": ID, "RepoTags": self.tags}, {"Id": "sha256:1", "RepoTags": None}]
        if self.tags is None or not path.endswith(f"{docker_images.segment(self.id)}/json"):
            raise ApiError(404, "no such image")
        return {"Id": self.id, "RepoTags": self.tags, "RootFS": {"Layers": []}} | self.more

    def load(self, archive):
        self._answer()
        return "Loaded image: other:1\nLoaded image ID: sha256:1\n"

    def post(self, path, *, repo, tag):
        if self.named_wrong:
            raise self.named_wrong
        self.posted.append((path.removeprefix("/images/"), repo, tag))

    def delete(self, path, *, noprune):
        assert noprune == "1", "parents are not ours to remove"
        self._answer()
        self.removed.append(path.removeprefix("/images/"))


NAMES = Names.of("a1b2c3d4e5f6")
OURS, OTHERS = NAMES.tag(IMAGE), Names.of("0f0e0d0c0b0a").tag(IMAGE)


@pytest.mark.parametrize(
    ("tags", "named"),
    [(None, False), ([], False), ([OURS], False), (["somebody:1"], True), ([OTHERS], True), ([OURS, OTHERS], False)],
    ids=["gone", "nobody's", "ours", "a person's", "another device's", "both"],
)
def test_an_image_gets_this_devices_name_beside_another(tags, named):
    """What somebody has named gets our name, too; what nobody has stays so, for letting go of it would delete it."""
    engine = Engine(tags=tags)

    docker_images.keep_image(engine, IMAGE, NAMES)

    assert engine.posted == (
        [(f"{docker_images.segment(ID)}/tag", NAMES.repository, NAMES.short(IMAGE))] if named else []
    )


def test_an_image_that_goes_before_it_is_named():
    """It is found missing when it is to start; another failure to name it is the engine's."""
    engine = Engine(tags=["somebody:1"])
    engine.named_wrong = ApiError(404, "no such image")
    docker_images.keep_image(engine, IMAGE, NAMES)

    engine.named_wrong = ApiError(500, "so it is")
    with pytest.raises(EngineBusy, match="could not name it: so it is"):
        docker_images.keep_image(engine, IMAGE, NAMES)


def test_names_stay_as_agents_of_before_gave_them():
    """An installation's id and sixteen digits: a name made otherwise would be taken away as one that nobody needs."""
    assert OURS.partition(":") == ("edgefleet.local/a1b2c3d4e5f6", ":", ID.removeprefix("sha256:")[:16])
    assert Names.of("").repository == "edgefleet.local/unknown"


def test_only_own_names_of_images_that_nobody_here_needs_go():
    """Of all the names on the engine, only this device's are taken away, and not those of images that are needed."""
    other = make("acme/other:1").manifest.runtimes[0].image
    tags = [OURS, OTHERS, "somebody:1", NAMES.tag(other), f"{NAMES.repository}-not:1"]
    engine = Engine(tags=tags)

    docker_images.let_go_images(engine, [IMAGE], NAMES)

    assert engine.removed == [docker_images.segment(NAMES.tag(other))]


def test_an_engine_that_cannot_list_images():
    """Nothing is let go of, and it is tried again later."""
    with pytest.raises(EngineBusy, match="could not list images: so it is"):
        docker_images.let_go_images(Engine(wrong=ApiError(500, "so it is")), [], NAMES)


@pytest.mark.parametrize(
    ("shown", "volumes"),
    [
        ({"Config": {"Volumes": {"/data": {}, "/more": {}}}}, {"/data", "/more"}),
        ({"Config": {"Volumes": None}}, set()),
        ({"Config": {}}, set()),
        ({"Config": None}, set()),  # as engines show an image that was built without a configuration
        ({}, set()),
        ({"tags": None}, set()),  # it is not there
    ],
)
def test_volumes_that_an_image_declares(shown, volumes):
    """Each is found, to be covered; an image that declares none has none, in whatever words."""
    assert docker_images.declared_volumes(Engine(**({"tags": []} | shown)), IMAGE) == volumes


@pytest.mark.parametrize("status", [404, 409])
def test_what_is_gone_or_in_use_needs_no_removal(status):
    """Nobody is told of an image that is gone already, or that a container uses."""
    docker_images._forget(Engine(wrong=ApiError(status, "so it is")), ID)


def test_a_removal_that_fails():
    """Another failure is the engine's, and tried again later."""
    with pytest.raises(EngineBusy, match="could not remove it: so it is"):
        docker_images._forget(Engine(wrong=ApiError(500, "so it is")), ID)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("write /x: No space left on device", NoSpace),
        ("invalid diffID for layer 0", Untrusted),
        ("wrong digest", Untrusted),
        ("layers from manifest don't match image configuration", Untrusted),
        ("mismatched", Untrusted),
        ("unexpected EOF", EngineBusy),
    ],
)
def test_a_load_that_fails(monkeypatch, tmp_path, said, error):
    """A full disk is waited out, bytes that are not what was signed are refused, anything else is tried again."""
    monkeypatch.setattr(docker_images, "archive", lambda *_, **__: iter(()))
    monkeypatch.setattr(docker_images, "_plan_space", lambda *_: None)

    with pytest.raises(error, match=f"(refused|load) it: {said}" if error is not NoSpace else said):
        docker_images.load_image(Engine(wrong=ApiError(500, said)), IMAGE, tmp_path, reserve=0)


def test_a_load_of_something_else(monkeypatch, tmp_path):
    """What an engine loaded in the place of what was signed is removed again, by every name that it said."""
    monkeypatch.setattr(docker_images, "archive", lambda *_, **__: iter(()))
    monkeypatch.setattr(docker_images, "_plan_space", lambda *_: None)
    engine = Engine()

    with pytest.raises(Untrusted, match="does not hold what was signed"):
        docker_images.load_image(engine, IMAGE, tmp_path, reserve=0)

    assert engine.removed == [docker_images.segment("other:1"), docker_images.segment("sha256:1")]


def test_an_engine_that_cannot_show_an_image():
    """That an engine failed to look says nothing about the image."""
    with pytest.raises(EngineBusy, match="could not show it: so it is"):
        docker_images.engine_id(Engine(wrong=ApiError(500, "so it is")), IMAGE)


def test_an_id_without_its_algorithm_is_the_same_id():
    """Podman leaves the words ``sha256:`` away: the image is found, and under the id that was signed."""
    assert docker_images.engine_id(Engine(tags=[], Id=ID.removeprefix("sha256:")), IMAGE) == ID


def test_an_image_with_the_beginning_of_a_signed_id_is_another():
    """What an engine made of a name that we asked for does not count, whatever it holds."""
    assert docker_images.engine_id(Engine(tags=[], Id=ID[:20]), IMAGE) is None


LAYERS = ["sha256:" + "1" * 64]


@pytest.fixture
def configured(tmp_path):
    """An image with ``LAYERS``, and the folder of its one blob, the configuration."""
    config = canonical.encode(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": LAYERS}}
    )
    blob = measure_bytes(config)
    blob_path(tmp_path, blob.sha256).write_bytes(config)
    return msgspec.structs.replace(IMAGE, config=blob), tmp_path


@pytest.mark.parametrize(
    ("layers", "held"), [(LAYERS, True), ([*LAYERS, *LAYERS], False), (["sha256:" + "2" * 64], False), (None, False)]
)
def test_an_image_is_held_with_the_signed_layers_only(configured, layers, held):
    """The signed id is not enough: an engine must have made of it the layers that the signed configuration lists."""
    image, blobs = configured
    engine = Engine(tags=[], RootFS={"Layers": layers})
    engine.id = image.config.sha256

    assert docker_images.has_image(engine, image, blobs) is held
    assert not docker_images.has_image(Engine(), image, blobs), "it has no such image"


def test_an_image_of_which_the_configuration_is_missing_is_not_held(configured, tmp_path):
    """Without the signed configuration nobody can say what the engine has."""
    image, _ = configured
    engine = Engine(tags=[], RootFS={"Layers": LAYERS})
    engine.id = image.config.sha256
    assert not docker_images.has_image(engine, image, tmp_path / "none")


def test_an_engine_without_the_image_has_no_id_for_it():
    """It is not there, and that is no failure."""
    assert docker_images.engine_id(Engine(), IMAGE) is None


FILE = 5000
UNPACKED = 2 * 4096 + 4096  # a file takes whole blocks, and one for itself


class Disks:
    """In place of ``shutil``: the disk of the engine's images, and the one of the blobs."""

    def __init__(self, **free):
        self.free = free

    def disk_usage(self, folder):
        return SimpleNamespace(free=self.free[folder.name])


@pytest.fixture
def packed(tmp_path):
    """An image whose one layer unpacks to ``UNPACKED`` bytes; its blobs lie in ``blobs``, the engine has ``images``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("content")
        info.size = FILE
        tar.addfile(info, io.BytesIO(bytes(FILE)))
    layer = gzip.compress(out.getvalue())
    for name in ("blobs", "images"):
        (tmp_path / name).mkdir()
    blob = measure_bytes(layer)
    blob_path(tmp_path / "blobs", blob.sha256).write_bytes(layer)
    return msgspec.structs.replace(IMAGE, layers=(blob,))


@pytest.mark.parametrize("told", ["images", "blobs"])
@pytest.mark.parametrize("signed", [msgspec.UNSET, UNPACKED], ids=["from before", "signed"])
def test_an_image_needs_room_beside_its_archive_and_the_reserve(packed, tmp_path, monkeypatch, told, signed):
    """Where the engine keeps its images, or else where the blobs are: just so much is enough, a byte less is not."""
    image = msgspec.structs.replace(packed, unpacked_bytes=signed)
    engine = Engine()
    engine.store = str(tmp_path / "images") if told == "images" else "/nowhere"
    reserve = 1000
    disks = Disks(images=0, blobs=0)
    monkeypatch.setattr(docker_images, "shutil", disks)
    disks.free[told] = UNPACKED + image.layers[0].length + reserve
    docker_images._plan_space(engine, image, tmp_path / "blobs", reserve)

    disks.free[told] -= 1
    with pytest.raises(NoSpace, match=f"0 are free beyond the reserve at {tmp_path / told}"):
        docker_images._plan_space(engine, image, tmp_path / "blobs", reserve)


def test_a_disk_without_even_the_reserve_has_nothing_free(packed, tmp_path, monkeypatch):
    """Nobody reads of less than no room."""
    monkeypatch.setattr(docker_images, "shutil", Disks(blobs=0))
    with pytest.raises(NoSpace, match="0 MiB or more, and 0 are free"):
        docker_images._plan_space(Engine(), packed, tmp_path / "blobs", 1 << 30)


def test_an_image_that_unpacks_to_more_than_was_signed_is_refused(packed, tmp_path):
    """A byte more than the publisher signed is the content's fault, however much room there is."""
    image = msgspec.structs.replace(packed, unpacked_bytes=UNPACKED - 1)
    with pytest.raises(Invalid, match="more than the 12287 bytes that were signed"):
        docker_images._plan_space(Engine(), image, tmp_path / "blobs", 0)


def test_an_engine_that_says_nothing_of_its_disk():
    """Where images are kept is then not known, and that is no failure."""
    assert docker_images.image_store(Engine(wrong=ApiError(500, "so it is"))) is None
    assert docker_images.image_store(Engine()) is None


def test_an_image_without_room_is_not_sent_to_the_engine(packed, tmp_path):
    """The room is looked at first: an engine would fill the disk before it says so."""
    with pytest.raises(NoSpace, match="are free beyond the reserve"):
        docker_images.load_image(Engine(), packed, tmp_path / "blobs", reserve=1 << 60)
