"""The image that a model is registered in, where nobody names one."""

import threading

import pytest

from fleet.client.workspace import Workspace
from modules.digests import Blob, sha256
from modules.errors import Invalid
from modules.manifest import Image


def image(name):
    digest = sha256(name.encode())
    blob = Blob(sha256=digest, length=1, blocks=digest)
    return Image(name=name, manifest=blob, config=blob, layers=(blob,))


def test_environments_leave_the_scoring_image_the_usual_one(workspace):
    """However many environments are built, a model without a script runs in the image that it ran in before."""
    workspace.keep_image(image("mine:cpu"))
    for name in ("visits", "churn"):
        workspace.keep_image(image(name), environment=True)

    assert workspace.image(None).name == "mine:cpu"


def test_the_image_that_was_built_without_a_name_is_the_usual_one(workspace):
    """Among several images the one that ``images build`` makes is meant."""
    for name in ("mine:cpu", "edgefleet-scoring:cpu", "other"):
        workspace.keep_image(image(name))

    assert workspace.image(None).name == "edgefleet-scoring:cpu"


def test_a_lone_environment_is_taken(workspace):
    """What is the only image there is has no rival."""
    workspace.keep_image(image("visits"), environment=True)

    assert workspace.image(None).name == "visits"


def test_a_choice_that_is_not_clear_is_asked_for(workspace):
    """Two images of which neither is the usual one: the error names both and the option."""
    for name in ("one", "two"):
        workspace.keep_image(image(name))

    with pytest.raises(Invalid, match="one, two") as refused:
        workspace.image(None)

    assert "--image" in refused.value.remedy


def test_an_image_that_takes_an_environments_name_is_none(workspace):
    """An image brought in under a name that an environment had is a scoring image again."""
    workspace.keep_image(image("visits"), environment=True)
    workspace.keep_image(image("visits"))
    workspace.keep_image(image("churn"), environment=True)

    assert workspace.image(None).name == "visits"


def test_commands_at_the_same_time_lose_no_image(workspace):
    """Each adds its own to the list that the others have written."""
    names = [f"image-{number}" for number in range(8)]
    together = threading.Barrier(len(names))

    def keep(name):
        mine = Workspace(workspace.root)
        together.wait()
        mine.keep_image(image(name))

    threads = [threading.Thread(target=keep, args=(name,)) for name in names]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert [one.name for one in workspace.images()] == names
