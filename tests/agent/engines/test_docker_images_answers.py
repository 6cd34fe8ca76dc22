"""What an engine may answer about images that a healthy one does not: each answer has its consequence."""

import pytest

from agent.engines import docker_images
from agent.engines.docker_api import ApiError
from agent.engines.docker_images import Names
from modules.errors import EngineBusy, NoSpace, Untrusted
from tests.doubles.release import make

IMAGE = make().manifest.runtimes[0].image
ID = IMAGE.config.sha256


class Engine:
    """Stands for ``DockerApi``: what it shows and what goes wrong, a test says; what it removed, it remembers."""

    def __init__(self, *, tags=None, wrong=None, **more):
        self.tags, self.wrong, self.more, self.removed, self.posted = tags, wrong, more, [], []

    def _answer(self):
        if self.wrong:
            raise self.wrong

    def get(self, path):
        self._answer()
        if path == "/images/json":
            return [{"Id": ID, "RepoTags": self.tags}, {"Id": "sha256:1", "RepoTags": None}]
        if self.tags is None or not path.endswith(f"{docker_images.segment(ID)}/json"):
            raise ApiError(404, "no such image")
        return {"Id": ID, "RepoTags": self.tags, "RootFS": {"Layers": []}} | self.more

    def load(self, archive):
        self._answer()
        return "Loaded image: other:1\nLoaded image ID: sha256:1\n"

    def post(self, path, *, repo, tag):
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


def test_only_own_names_of_images_that_nobody_here_needs_go():
    """Of all the names on the engine, only this device's are taken away, and not those of images that are needed."""
    other = make("acme/other:1").manifest.runtimes[0].image
    tags = [OURS, OTHERS, "somebody:1", NAMES.tag(other), f"{NAMES.repository}-not:1"]
    engine = Engine(tags=tags)

    docker_images.let_go_images(engine, [IMAGE], NAMES)

    assert engine.removed == [docker_images.segment(NAMES.tag(other))]


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
    ("words", "error"),
    [
        ("write /x: No space left on device", NoSpace),
        ("invalid diffID for layer 0", Untrusted),
        ("wrong digest", Untrusted),
        ("layers from manifest don't match image configuration", Untrusted),
        ("mismatched", Untrusted),
        ("unexpected EOF", EngineBusy),
    ],
)
def test_a_load_that_fails(monkeypatch, tmp_path, words, error):
    """A full disk is waited out, bytes that are not what was signed are refused, anything else is tried again."""
    monkeypatch.setattr(docker_images, "archive", lambda *_, **__: iter(()))
    monkeypatch.setattr(docker_images, "_plan_space", lambda *_: None)

    with pytest.raises(error):
        docker_images.load_image(Engine(wrong=ApiError(500, words)), IMAGE, tmp_path, reserve=0)


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
