"""How a scoring image gets onto devices that have none: over MQTT in blocks, or from a file; never by its name."""

import io
import tarfile
from contextlib import ExitStack, closing

import docker
import msgspec
import pytest

from modules.digests import BLOCK
from modules.images import archive_tag, image_ids
from modules.manifest import Image
from tests.parts import digits
from tests.parts.dockerd import dockerd

pytestmark = [pytest.mark.long, pytest.mark.needs("dockerd")]
SLOT = "digits"
WITHIN_S = 150


@pytest.fixture(scope="module")
def engines():
    """Makes empty engines."""
    with ExitStack() as stack:

        def make():
            return stack.enter_context(dockerd())

        yield make


@pytest.fixture(scope="module")
def signed(system):
    """The image as the publisher's workspace has it and the manifests name it."""
    return system.workspace.image("scoring:cpu")


def layers_asked(tap, image):
    """Blocks of the image's layers that the device asked for, with how often."""
    names = {layer.sha256 for layer in image.layers}
    return {key: times for key, times in tap.asked.items() if key[0] in names}


def impostor(engine, tag):
    """An image with one file and a name that is not its own; returns its id."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("impostor"), io.BytesIO())
    repository, _, name = tag.rpartition(":")
    engine.api.import_image_from_data(stream.getvalue(), repository=repository, tag=name)
    return engine.images.get(tag).id


def started_from(edge):
    with edge.containers() as containers:
        return {one.attrs["Image"] for one in containers}


def answers(edge):
    return all(question.wrong(edge.score(SLOT, question.body).body) == "" for question in digits.QUESTIONS)


def test_an_image_comes_over_mqtt_and_never_by_its_name(system, device, engines, signed, digits_module):
    """An engine has the right name for other content: the signed image is pulled in blocks, and that one runs."""
    engine = engines()
    with closing(docker.DockerClient(f"unix://{engine.socket}", timeout=60)) as client:
        false = {impostor(client, tag) for tag in (archive_tag(signed), "scoring:cpu")}
    edge = device("dev-empty", engine=engine.socket)
    with system.wiretap(edge.name) as tap:
        rollout = system.start_rollout(digits_module, edge.name, slot=SLOT)
        done = system.ended(rollout, within_s=WITHIN_S, said=edge.said)
        asked = layers_asked(tap, signed)
    assert done["state"] == "done", done
    assert started_from(edge) <= set(image_ids(signed))
    assert not started_from(edge) & false
    assert answers(edge)
    blocks = sum(layer.block_count for layer in signed.layers)
    assert len(asked) == blocks
    # A block that got lost is asked for again; that is the exception.
    assert sum(asked.values()) <= blocks * 1.02


def test_an_image_comes_from_a_file(system, device, engines, signed, digits_module, tmp_path):
    """After ``images save`` here and ``images import`` there, no layer crosses the wire, whatever restarts."""
    file = tmp_path / "scoring.tar"
    system.cli("images", "save", signed.name, file)
    engine = engines()
    edge = device("dev-side-loaded", engine=engine.socket)
    imported = msgspec.json.decode(edge.command("images", "import", file, "--json"), type=Image)
    file.unlink()
    assert imported.config == signed.config
    with system.wiretap(edge.name) as tap:
        rollout = system.start_rollout(digits_module, edge.name, slot=SLOT)
        done = system.ended(rollout, within_s=WITHIN_S, said=edge.said)
        assert layers_asked(tap, signed) == {}
        # The module's own files are all that came.
        assert sum(tap.asked.values()) * BLOCK < 1 << 20
    assert done["state"] == "done", done
    assert started_from(edge) <= set(image_ids(signed))
    assert answers(edge)
    see_it_survive(engine, edge)


def see_it_survive(engine, edge):
    """The engine is stopped, which ends its containers, and started again, as by an update of its package."""
    engine.program.stop()
    assert edge.score(SLOT, digits.QUESTIONS[0].body).status == 503
    engine.start()
    edge.until(lambda: edge.score(SLOT, digits.QUESTIONS[0].body).status == 200, "the module is back by itself")
    assert edge.phase(SLOT) == "committed"
    assert answers(edge)
