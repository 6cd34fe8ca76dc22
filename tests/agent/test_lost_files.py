"""Files of a module that were lost, cut or changed on the device's disk: they come back, and nobody is blamed."""

import shutil

import pytest

from agent.blobs import BlobStore
from agent.shelf import Shelf
from modules.errors import Untrusted
from modules.protocol.phases import Phase
from tests.doubles.engine import Behaviour
from tests.doubles.release import make

FIRST, SECOND = make("acme/digits:1"), make("acme/digits:2")


def home(device, release):
    return device.folder / "modules" / release.digest.removeprefix("sha256:")


def model(device, release):
    return home(device, release) / "files" / "model.onnx"


def is_whole(device, release):
    """Every file is there with the bytes that were signed, for reading alone."""
    folder = home(device, release)
    paths = {folder / "files" / entry.path: release.blobs[entry.sha256] for entry in release.manifest.files}
    paths[folder / "manifest.json"] = release.data
    return all(path.is_file() and path.read_bytes() == data for path, data in paths.items()) and not any(
        path.stat().st_mode & 0o222 for path in paths
    )


def lose_the_folder(device, release):
    shutil.rmtree(home(device, release))


def lose_a_file(device, release):
    model(device, release).unlink()


def cut_a_file(device, release):
    """As a file system does whose journal did not hold the bytes."""
    path = model(device, release)
    path.unlink()
    path.write_bytes(b"the")


def lose_the_manifest(device, release):
    (home(device, release) / "manifest.json").unlink()


def lose_what_names_it(device, release):
    home(device, release).with_suffix(".manifest").unlink()


def damage_what_names_it(device, release):
    home(device, release).with_suffix(".manifest").write_bytes(b"\0" * 4096)


LOSSES = (lose_the_folder, lose_a_file, cut_a_file, lose_the_manifest, lose_what_names_it, damage_what_names_it)


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_module_is_restarted_from_what_else_is_here(device, lose):
    """Offline: its bytes lie in the agent's own store, so a lost name of them is no reason to be down."""
    await device.committed(FIRST)
    device.server.silent = True
    lose(device, FIRST)
    device.engine.crash(device.row().current.instance)
    await device.restarted()

    assert is_whole(device, FIRST)


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_revert_finds_the_version_before_whole(device, lose):
    """What waits for years until it is needed is looked at when it is."""
    await device.committed(FIRST)
    await device.committed(SECOND)
    device.server.silent = True
    lose(device, FIRST)
    device.engine.behaviours[SECOND.digest] = Behaviour(exits=True)
    device.engine.crash(device.row().current.instance)
    await device.phase(Phase.REVERTED, flowing=5.0)

    assert device.serves() == "acme/digits:1"
    assert is_whole(device, FIRST)


async def test_what_this_disk_has_nowhere_comes_from_the_server(device):
    """Its link in the store was the same file, and went with it."""
    await device.committed(FIRST)
    for entry in FIRST.manifest.files:
        device.blobs.path(entry.sha256).unlink()
    lose_the_folder(device, FIRST)
    device.engine.crash(device.row().current.instance)
    await device.restarted()

    assert is_whole(device, FIRST)


async def test_bytes_that_a_bad_disk_changed_are_fetched_before_a_version_is_given_up(device):
    """The content is not condemned for what the disk made of it: it is read before so many restarts are enough."""
    await device.committed(FIRST)
    await device.committed(SECOND)
    path = model(device, SECOND)
    path.chmod(0o600)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))  # where its link in the store is, too
    device.engine.behaviours[SECOND.digest] = Behaviour(exits=True)
    device.engine.crash(device.row().current.instance)
    await device.until(lambda: is_whole(device, SECOND), flowing=1.0)
    device.engine.behaviours.clear()
    await device.until(device.served, flowing=1.0)

    assert device.serves() == "acme/digits:2"
    assert device.store.failed(SECOND.digest) is None


async def test_a_file_that_is_not_to_be_had_keeps_nothing_down(device, caplog):
    """Offline, and nowhere on this disk: the module is started with what is there, for it may do without."""
    await device.committed(FIRST)
    device.server.silent = True
    samples = next(entry for entry in FIRST.manifest.files if entry.path == "samples.json")
    device.blobs.path(samples.sha256).unlink()
    (home(device, FIRST) / "files" / "samples.json").unlink()
    device.engine.crash(device.row().current.instance)
    await device.restarted()

    assert "not all of its files could be put back" in caplog.text


@pytest.mark.parametrize("left", ["nothing", "a part"])
async def test_a_folder_that_was_left_half_empty_is_no_module(device, left):
    """A folder with the module's name is filled, and not taken for the module."""
    files = home(device, FIRST) / "files"
    files.mkdir(parents=True)
    if left == "a part":
        (files / "model.onnx").write_bytes(b"half")
    await device.order(main=FIRST)
    await device.phase(Phase.PROBATION)

    assert is_whole(device, FIRST)


@pytest.mark.parametrize("where", ["module", "file"])
async def test_something_else_in_a_files_place_is_named_and_nobody_is_blamed(device, where):
    """A file where the folder should be, or a folder where the file should: the operator reads which, and it goes on
    when that is gone."""
    place = home(device, FIRST) if where == "module" else model(device, FIRST)
    if where == "module":
        place.write_bytes(b"")
    else:
        (place / "x").mkdir(parents=True)
    await device.order(main=FIRST)
    await device.until(lambda: device.row().reason is not None)
    assert device.row().phase is Phase.VERIFIED
    assert home(device, FIRST).name in device.row().reason.message

    shutil.rmtree(place) if place.is_dir() else place.unlink()
    await device.phase(Phase.PROBATION, flowing=1.0)
    assert is_whole(device, FIRST)


def test_a_manifest_that_is_right_in_neither_place_is_refused(tmp_path):
    """No module is run by other words than its publisher signed."""
    shelf, blobs = Shelf(tmp_path / "modules"), BlobStore(tmp_path / "blobs")
    for digest, data in FIRST.blobs.items():
        blobs.path(digest).write_bytes(data)
    shelf.keep_manifest(FIRST.digest, FIRST.data)
    shelf.lay_out(FIRST.digest, FIRST.manifest, blobs)
    for path in (shelf.path(FIRST.digest).with_suffix(".manifest"), shelf.path(FIRST.digest) / "manifest.json"):
        path.chmod(0o600)
        path.write_bytes(SECOND.data)
    with pytest.raises(Untrusted, match="it was changed"):
        shelf.manifest(FIRST.digest)
