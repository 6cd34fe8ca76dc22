"""What is brought in for a module, what is told of it meanwhile, and what is kept, so that it can start again."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from agent import supply as module
from agent.blobs import BlobStore
from agent.fetch import Puller
from agent.shelf import Shelf
from agent.slots import Placed
from agent.supply import Supply
from modules.digests import measure_bytes
from modules.errors import LinkLost, NoSpace
from modules.manifest import File
from modules.names import slug
from tests.doubles.blob_server import BlobServer
from tests.doubles.clock import VirtualClock
from tests.doubles.engine import SimulatedEngine
from tests.doubles.release import make
from tests.doubles.rows import slot_row
from tests.parts.pace import stretched

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


class Disks:
    """In place of ``shutil``: so much is free on the disk of the engine's folder, and on the other."""

    def __init__(self, *, images: int, others: int) -> None:
        self.free = {"images": images, "blobs": others}

    def disk_usage(self, folder):
        return SimpleNamespace(free=self.free[folder.name])


LARGE = msgspec.structs.replace(IMAGE, unpacked_bytes=64 << 20)
ROOM = 65 << 20


@pytest.mark.parametrize(
    ("image", "free", "fits"),
    [
        (LARGE, {"images": ROOM, "others": ROOM}, True),
        (LARGE, {"images": 63 << 20, "others": 1 << 40}, False),
        (LARGE, {"images": 1 << 40, "others": 0}, False),
        (IMAGE, {"images": 1 << 20, "others": 1 << 20}, True),
    ],
    ids=["fits", "does not fit unpacked", "does not fit as it comes", "does not say"],
)
async def test_what_an_image_unpacks_to_is_planned_before_it_is_fetched(
    supplied, server, engine, tmp_path, monkeypatch, image, free, fits
):
    """Where the engine's disk cannot hold what was signed, no layer is asked for; an image of before, which does
    not say it, is fetched. The two disks count for themselves."""
    engine.store = tmp_path / "images"
    engine.store.mkdir()
    _, supply = supplied()
    monkeypatch.setattr("agent.supply.shutil", Disks(**free))
    monkeypatch.setattr("agent.supply._disk", lambda folder: folder)

    fetching = supply.fetch(CURRENT.manifest, image, engine, lambda _: None)
    if fits:
        await fetching
    else:
        with pytest.raises(NoSpace, match=r"MiB are to be (unpacked|fetched) and \d+ are free"):
            await fetching
    assert (image.layers[0].sha256 in {name for name, _ in server.sent}) is fits


async def test_on_one_disk_both_count_together(supplied, engine, tmp_path, monkeypatch):
    """What is fetched, what the engine keeps of it while it unpacks, and what it unpacks to; of an image that the
    engine has, nothing."""
    engine.store = tmp_path / "images"
    engine.store.mkdir()
    _, supply = supplied()
    layers = sum(layer.length for layer in LARGE.layers)
    need = LARGE.unpacked_bytes + 2 * layers + sum(entry.length for entry in CURRENT.manifest.files)
    room = Disks(images=need, others=need)
    monkeypatch.setattr("agent.supply.shutil", room)
    with pytest.raises(NoSpace, match="64 MiB are to be fetched and unpacked"):
        await supply.fetch(CURRENT.manifest, LARGE, engine, lambda _: None)
    engine.images.add(LARGE.manifest.sha256)
    await supply.fetch(CURRENT.manifest, LARGE, engine, lambda _: None)
    engine.images.clear()
    room.free = {"images": need + 1, "blobs": need + 1}

    await supply.fetch(CURRENT.manifest, LARGE, engine, lambda _: None)


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


def change(store, blob):
    """Other bytes of the same length, as a bad disk makes them."""
    path = store.path(blob.sha256)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
async def test_a_part_of_an_image_that_this_disk_changed_is_fetched_anew(supplied, engine, which):
    """It is the disk's fault and not the content's, which may be tried again without anybody's word."""
    store, supply = supplied()
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    change(store, IMAGE.layers[0] if which == "layer" else getattr(IMAGE, which))

    with pytest.raises(FileNotFoundError):
        await supply.load(IMAGE, engine)
    await supply.ensure(CURRENT.manifest, IMAGE, engine)

    assert await engine.has_image(IMAGE, None)
    assert all(store.sound(blob) for blob in (IMAGE.manifest, IMAGE.config, *IMAGE.layers))


async def test_a_changed_document_is_fetched_before_the_engine_is_asked_by_it(supplied, engine):
    """An image's configuration is what it is recognised by."""
    store, supply = supplied()
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    change(store, IMAGE.config)
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)

    assert store.path(IMAGE.config.sha256).read_bytes() == CURRENT.blobs[IMAGE.config.sha256]


async def test_a_file_that_this_disk_changed_is_never_laid_out(supplied, engine, tmp_path):
    """No module starts on other bytes than its publisher signed."""
    store, supply = supplied()
    Shelf(tmp_path / "modules").keep_manifest(CURRENT.digest, CURRENT.data)
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    change(store, CURRENT.manifest.files[0])

    with pytest.raises(FileNotFoundError):
        supply.lay_out(CURRENT.digest, CURRENT.manifest)
    assert not Shelf(tmp_path / "modules").path(CURRENT.digest).exists()
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    supply.lay_out(CURRENT.digest, CURRENT.manifest)


async def test_bytes_that_a_manifest_names_often_are_read_once(supplied, engine, tmp_path, monkeypatch):
    """A thousand files of the same bytes cost the device one look at them, however long they are."""
    store, supply = supplied()
    (first, *_) = CURRENT.manifest.files
    more = tuple(msgspec.structs.replace(first, path=f"copies/{number}") for number in range(1000))
    wanted = msgspec.structs.replace(CURRENT.manifest, files=(*CURRENT.manifest.files, *more))
    Shelf(tmp_path / "modules").keep_manifest(CURRENT.digest, CURRENT.data)
    await supply.fetch(wanted, IMAGE, engine, lambda _: None)
    read, sound = [], BlobStore.sound
    monkeypatch.setattr(BlobStore, "sound", lambda self, blob: read.append(blob.sha256) or sound(self, blob))

    supply.lay_out(CURRENT.digest, wanted)

    assert read.count(first.sha256) == 1
    home = Shelf(tmp_path / "modules").path(CURRENT.digest)
    assert len(list((home / "files" / "copies").iterdir())) == 1000
    assert store.has(first)


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

    _kept(blobs, shelf, CURRENT, PREVIOUS)
    assert not any(blobs.has(layer) for layer in FORGOTTEN.manifest.runtimes[0].image.layers)


@pytest.mark.parametrize("place", ["current", "candidate", "previous"])
def test_what_runs_keeps_its_files_whatever_was_ordered_since(tmp_path, blobs, place):
    """An order for another version names that one alone; the version that serves, or may have to again, stays."""
    shelf = Shelf(tmp_path / "modules")
    for release in (CURRENT, PREVIOUS):
        shelf.keep_manifest(release.digest, release.data)
        shelf.lay_out(release.digest, release.manifest, blobs)
    supply = Supply(
        blobs=blobs, shelf=shelf, puller=Puller(BlobServer().send, timeout_s=1, tries=1), reserve=1, budget=0
    )

    supply.prune([slot_row(PREVIOUS.wanted(), slug("digits"), **{place: _placed(CURRENT)})])

    _kept(blobs, shelf, CURRENT, PREVIOUS)
    assert shelf.path(CURRENT.digest).is_dir()


def _kept(blobs, shelf, *releases):
    for release in releases:
        assert shelf.manifest(release.digest) == release.manifest
        image = release.manifest.runtimes[0].image
        assert all(blobs.has(blob) for blob in (image.manifest, image.config, *image.layers, *release.manifest.files))


class Brings:
    """In place of a puller: brings each blob whole, after ``takes_s`` of a clock of its own, and counts them."""

    detour = "the quicker way is closed"

    def __init__(self, takes_s=0.0) -> None:
        self.takes_s, self.time, self.under_way, self.most, self.brought = takes_s, 1000.0, 0, 0, 0

    def monotonic(self):
        return self.time

    async def blob(self, blob, store, progress=lambda _: None):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.time += self.takes_s
        self.brought += 1
        self.under_way -= 1
        progress(blob.length)


def files(count):
    """A module of so many files, of 100 bytes each."""
    blobs = [measure_bytes(bytes([number]) * 100) for number in range(count)]
    return msgspec.structs.replace(
        CURRENT.manifest,
        files=tuple(File(path=blob.sha256[7:17], sha256=blob.sha256, length=100, blocks=blob.blocks) for blob in blobs),
    )


@pytest.fixture
def bringing(tmp_path):
    """Makes a supply that is brought everything by a puller of a test's."""

    def make_one(puller, *, reserve=0):
        blobs = BlobStore(tmp_path / "blobs")
        return Supply(blobs=blobs, shelf=Shelf(tmp_path / "modules"), puller=puller, reserve=reserve, budget=1)

    return make_one


async def test_progress_is_told_each_second(bringing, monkeypatch):
    """Each telling is a synced write: one in a second, exactly then, and each says which share is there."""
    puller = Brings(takes_s=0.5)
    monkeypatch.setattr(module, "time", puller)
    told = []

    await bringing(puller).fetch(files(10), None, None, told.append)

    assert told == [0.2, 0.4, 0.6, 0.8, 1.0]


async def test_four_blobs_at_a_time(bringing):
    """More would only share the link with each other."""
    puller = Brings()
    await bringing(puller).fetch(files(10), None, None, lambda _: None)
    assert (puller.most, puller.brought) == (4, 10)


async def test_without_an_engine_no_image_is_asked_for(bringing):
    """A module that runs as a process needs its files alone, and an engine that is not there no layers."""
    puller = Brings()
    await bringing(puller).fetch(files(3), IMAGE, None, lambda _: None)
    assert puller.brought == 3


def test_why_blobs_take_a_detour_is_told(bringing):
    """In the puller's own words."""
    assert bringing(Brings()).detour == "the quicker way is closed"


async def test_what_just_fits_is_fetched(bringing, monkeypatch):
    """To the last byte that is free beyond the reserve."""
    supply = bringing(Brings(), reserve=7)
    disk = SimpleNamespace(free=0)
    monkeypatch.setattr(module, "shutil", SimpleNamespace(disk_usage=lambda _: disk))
    disk.free = 306
    with pytest.raises(NoSpace):
        await supply.fetch(files(3), None, None, lambda _: None)
    disk.free = 307
    await supply.fetch(files(3), None, None, lambda _: None)


async def test_an_image_of_before_is_planned_by_its_layers_alone(bringing, engine, tmp_path, monkeypatch):
    """It does not say what it unpacks to: then as much as is known of it must be free, and no more is asked for."""
    supply = bringing(Brings())
    engine.store = tmp_path / "images"
    engine.store.mkdir()
    layers = sum(layer.length for layer in IMAGE.layers)
    disks = Disks(images=layers, others=1 << 30)
    monkeypatch.setattr(module, "shutil", disks)
    monkeypatch.setattr(module, "_disk", lambda folder: folder)
    await supply.fetch(files(1), IMAGE, engine, lambda _: None)
    disks.free["images"] -= 1
    with pytest.raises(NoSpace):
        await supply.fetch(files(1), IMAGE, engine, lambda _: None)


def test_what_is_on_one_disk_is_told_by_the_disk(tmp_path):
    """Two folders of one file system share what is free there, those of two do not."""
    (tmp_path / "other").mkdir()
    assert module._disk(tmp_path) == module._disk(tmp_path / "other")
    assert module._disk(tmp_path) != module._disk(Path("/proc"))


async def test_a_blob_that_cannot_be_had_ends_the_others(bringing):
    """The failure is told at once, as what it is, and nothing is pulled behind its back."""

    class Fails(Brings):
        async def blob(self, blob, store, progress=lambda _: None):
            if blob is manifest.files[2]:
                await asyncio.sleep(0)
                raise LinkLost("there is no session")
            begun.append(blob)
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                self.brought += 1  # its file is closed

    puller, manifest, begun = Fails(), files(6), []
    async with asyncio.timeout(stretched(5)):
        with pytest.raises(LinkLost):
            await bringing(puller).fetch(manifest, None, None, lambda _: None)

    assert puller.brought == len(begun)
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("pull-")] == []


async def test_a_missing_layer_is_found_before_the_engine_is_asked(supplied, engine):
    """By its digest: the engine is given only images of which every byte is here."""
    store, supply = supplied()
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    change(store, IMAGE.layers[0])

    with pytest.raises(FileNotFoundError, match=f"this blob is missing here: '{IMAGE.layers[0].sha256}'"):
        await supply.load(IMAGE, engine)
    assert engine.loads == 0


async def test_what_was_fetched_is_laid_out(supplied, engine, tmp_path):
    """The module's folder has each of its files."""
    _, supply = supplied()
    shelf = Shelf(tmp_path / "modules")
    shelf.keep_manifest(CURRENT.digest, CURRENT.data)
    await supply.fetch(CURRENT.manifest, IMAGE, engine, lambda _: None)
    supply.lay_out(CURRENT.digest, CURRENT.manifest)

    for entry in CURRENT.manifest.files:
        assert (shelf.path(CURRENT.digest) / "files" / entry.path).read_bytes() == CURRENT.blobs[entry.sha256]


async def test_an_engine_keeps_the_images_of_slots_and_no_others(supplied, engine, tmp_path):
    """Those that a slot may need get this device's name, whoever brought them; the others lose it."""
    _, supply = supplied()
    shelf = Shelf(tmp_path / "modules")
    plain = make("acme/plain:1", image=False)
    for release in (CURRENT, PREVIOUS, plain):
        shelf.keep_manifest(release.digest, release.data)
    current, previous, forgotten = (
        release.manifest.runtimes[0].image.manifest.sha256 for release in (CURRENT, PREVIOUS, FORGOTTEN)
    )
    engine.images = {current, previous, forgotten}
    engine.named = {previous, forgotten}
    slots = (
        slot_row(CURRENT.wanted(), slug("digits"), previous=_placed(PREVIOUS)),
        slot_row(plain.wanted(), slug("plain")),
    )

    await supply.let_go(engine, lambda: slots)

    assert engine.named == engine.images == {current, previous}


def test_a_module_that_no_slot_names_leaves_no_folder(tmp_path, blobs):
    """Its files go with it; those of the others stay."""
    shelf = Shelf(tmp_path / "modules")
    for release in (CURRENT, FORGOTTEN):
        shelf.keep_manifest(release.digest, release.data)
        shelf.lay_out(release.digest, release.manifest, blobs)
    supply = Supply(blobs=blobs, shelf=shelf, puller=Brings(), reserve=1, budget=1 << 30)

    supply.prune([slot_row(CURRENT.wanted(), slug("digits"))])

    assert [shelf.path(release.digest).exists() for release in (CURRENT, FORGOTTEN)] == [True, False]
