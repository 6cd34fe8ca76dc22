"""What is brought in for a module, what is told of it meanwhile, and what is kept, so that it can start again."""

import pytest

from agent.blobs import BlobStore
from agent.fetch import Puller
from agent.shelf import Shelf
from agent.slots import Placed
from agent.supply import Supply
from modules.errors import NoSpace
from modules.names import slug
from tests.doubles.blob_server import BlobServer
from tests.doubles.clock import VirtualClock
from tests.doubles.engine import SimulatedEngine
from tests.doubles.release import make
from tests.doubles.rows import slot_row

CURRENT, PREVIOUS, FORGOTTEN = make("acme/digits:2"), make("acme/digits:1"), make("acme/digits:0")
IMAGE = CURRENT.manifest.runtimes[0].image


@pytest.fixture
def blobs(tmp_path):
    store = BlobStore(tmp_path / "blobs")
    for release in (CURRENT, PREVIOUS, FORGOTTEN):
        for digest, data in release.blobs.items():
            store.path(digest).write_bytes(data)
    return store


@pytest.fixture
def engine():
    return SimulatedEngine(VirtualClock())


@pytest.fixture
def server():
    return BlobServer(dict(CURRENT.blobs))


@pytest.fixture
def supplied(tmp_path, server):
    """Makes a supply, on an empty disk, from a server that has the current release."""

    def make_one(*, reserve=1):
        puller = Puller(server.send, timeout_s=1, tries=1)
        server.deliver = puller.on_block
        store = BlobStore(tmp_path / "blobs")
        return store, Supply(
            blobs=store, shelf=Shelf(tmp_path / "modules"), puller=puller, reserve=reserve, budget=1 << 30
        )

    return make_one


async def test_how_much_is_there_is_told_as_a_share(supplied, engine, monkeypatch):
    """What is told while blobs arrive grows from nothing to one."""
    monkeypatch.setattr("agent.supply._TELL_EVERY_S", 0.0)
    told = []
    _, supply = supplied()

    await supply.fetch(CURRENT.manifest, IMAGE, engine, told.append)

    assert len(told) > 1
    assert told == sorted(told)
    assert told[0] < 0.5
    assert told[-1] == pytest.approx(1)


async def test_what_does_not_fit_is_not_begun(supplied, server, engine):
    """Where the disk's reserve would be touched nothing but the image's documents is asked for."""
    _, supply = supplied(reserve=1 << 60)

    with pytest.raises(NoSpace, match="0 are free beyond the reserve"):
        await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)

    assert {name for name, _ in server.sent} <= {
        digest for one in (IMAGE.manifest, IMAGE.config) for digest in (one.sha256, one.blocks)
    }


async def test_an_image_that_the_engine_lost_comes_back_from_this_disk(supplied, server, engine):
    """As long as its layers are here the server is not asked, and an engine that has it is not given it again."""
    _, supply = supplied()
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    server.down = True

    await supply.ensure(CURRENT.manifest, IMAGE, engine)
    assert await engine.has_image(IMAGE, None)

    await supply.ensure(CURRENT.manifest, IMAGE, engine)
    assert engine.loads == 1


async def test_an_image_that_is_there_gets_this_devices_name(supplied, engine):
    """Whoever brought it: from then on it stays as long as this device needs it. Where another device has let it go in
    the same moment it is loaded."""
    _, supply = supplied()
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    engine.images.add(IMAGE.manifest.sha256)
    await supply.load(IMAGE, engine)
    assert (engine.loads, engine.named) == (0, {IMAGE.manifest.sha256})

    engine.named.clear()
    engine.goes_before_it_is_named = True
    await supply.load(IMAGE, engine)
    assert (engine.loads, engine.named, engine.images) == (1, {IMAGE.manifest.sha256}, {IMAGE.manifest.sha256})


async def test_an_image_that_engine_and_disk_lost_comes_from_the_server(supplied, engine):
    """A missing layer is fetched anew, and the image loaded."""
    store, supply = supplied()
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    store.path(IMAGE.layers[0].sha256).unlink()

    with pytest.raises(FileNotFoundError):
        await supply.load(IMAGE, engine)
    await supply.ensure(CURRENT.manifest, IMAGE, engine)

    assert await engine.has_image(IMAGE, None)


def _placed(release):
    return Placed(wanted=release.wanted(), instance="digits-1", socket="/run/none")


def test_layers_of_the_current_and_the_previous_version_are_never_pruned(tmp_path, blobs):
    """An engine that lost its images gets them back from here, offline too; those that no slot names may go."""
    shelf = Shelf(tmp_path / "modules")
    for release in (CURRENT, PREVIOUS, FORGOTTEN):
        shelf.keep_manifest(release.digest, release.data)
    supply = Supply(
        blobs=blobs, shelf=shelf, puller=Puller(BlobServer().send, timeout_s=1, tries=1), reserve=1, budget=0
    )

    supply.prune([slot_row(CURRENT.wanted(), slug("digits"), current=_placed(CURRENT), previous=_placed(PREVIOUS))])

    for release in (CURRENT, PREVIOUS):
        image = release.manifest.runtimes[0].image
        assert all(blobs.has(blob) for blob in (image.manifest, image.config, *image.layers, *release.manifest.files))
    assert not any(blobs.has(layer) for layer in FORGOTTEN.manifest.runtimes[0].image.layers)
