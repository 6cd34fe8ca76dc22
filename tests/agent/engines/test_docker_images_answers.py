"""What an engine may answer about images that a healthy one does not: each answer has its consequence."""

import pytest

from agent.engines import docker_images
from agent.engines.docker_api import ApiError
from modules.errors import EngineBusy, NoSpace, Untrusted
from modules.images import archive_tag
from tests.doubles.release import make

IMAGE = make().manifest.runtimes[0].image
ID = IMAGE.config.sha256


class Engine:
    """Stands for ``DockerApi``: what it shows and what goes wrong, a test says; what it removed, it remembers."""

    def __init__(self, *, tags=None, wrong=None):
        self.tags, self.wrong, self.removed = tags, wrong, []

    def _answer(self):
        if self.wrong:
            raise self.wrong

    def get(self, path):
        self._answer()
        if self.tags is None or not path.endswith(f"{docker_images.segment(ID)}/json"):
            raise ApiError(404, "no such image")
        return {"Id": ID, "RepoTags": self.tags, "RootFS": {"Layers": []}}

    def load(self, archive):
        self._answer()
        return "Loaded image: other:1\nLoaded image ID: sha256:1\n"

    def delete(self, path):
        self._answer()
        self.removed.append(path.removeprefix("/images/"))


@pytest.mark.parametrize(("tags", "by_id"), [([], True), (None, False), (["somebody:1"], False)])
def test_removing_takes_the_tag_and_what_has_no_tag_left(tags, by_id):
    """Our tag goes; the image goes by its id where nobody's tag is left, and stays where there is one."""
    engine = Engine(tags=tags)

    docker_images.remove_image(engine, IMAGE)

    segment = docker_images.segment
    assert engine.removed == [segment(archive_tag(IMAGE)), *([segment(ID)] if by_id else [])]


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
    monkeypatch.setattr(docker_images, "archive", lambda *_: iter(()))
    monkeypatch.setattr(docker_images, "_plan_space", lambda *_: None)

    with pytest.raises(error):
        docker_images.load_image(Engine(wrong=ApiError(500, words)), IMAGE, tmp_path, reserve=0)


def test_a_load_of_something_else(monkeypatch, tmp_path):
    """What an engine loaded in the place of what was signed is removed again, by every name that it said."""
    monkeypatch.setattr(docker_images, "archive", lambda *_: iter(()))
    monkeypatch.setattr(docker_images, "_plan_space", lambda *_: None)
    engine = Engine()

    with pytest.raises(Untrusted, match="does not hold what was signed"):
        docker_images.load_image(engine, IMAGE, tmp_path, reserve=0)

    assert engine.removed == [docker_images.segment("other:1"), docker_images.segment("sha256:1")]


def test_an_engine_that_cannot_show_an_image():
    """That an engine failed to look says nothing about the image."""
    with pytest.raises(EngineBusy, match="could not show it: so it is"):
        docker_images.engine_id(Engine(wrong=ApiError(500, "so it is")), IMAGE)
