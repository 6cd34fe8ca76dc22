"""Modules on disk: there or not, read-only, checked when read, and forgotten when nobody names them."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent.blobs import BlobStore
from agent.shelf import Shelf
from modules.errors import Untrusted
from tests.doubles.disk import Disk
from tests.doubles.release import make

RELEASE, OTHER = make("acme/digits:1"), make("acme/digits:2")


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "modules")


@pytest.fixture
def blobs(tmp_path):
    store = BlobStore(tmp_path / "blobs")
    for digest, data in RELEASE.blobs.items():
        store.path(digest).write_bytes(data)
    return store


def test_a_module_is_laid_out_whole_and_read_only(shelf, blobs):
    """Manifest and files stand at their paths, nobody may write them, and doing it again changes nothing."""
    shelf.keep_manifest(RELEASE.digest, RELEASE.data)
    shelf.lay_out(RELEASE.digest, RELEASE.manifest, blobs)
    shelf.lay_out(RELEASE.digest, RELEASE.manifest, blobs)
    home = shelf.path(RELEASE.digest)

    assert (home / "manifest.json").read_bytes() == RELEASE.data
    assert (home / "files" / "model.onnx").read_bytes() == b"the graph of acme/digits:1"
    assert {path.stat().st_mode & 0o777 for path in home.rglob("*") if path.is_file()} == {0o444}
    assert not list(shelf.folder.glob("*.draft"))
    assert shelf.samples(RELEASE.digest, RELEASE.manifest).samples[0].name == "one"


def test_blobs_on_another_file_system_are_copied(shelf, monkeypatch):
    """A blob folder on a disk of its own is no reason against any module; the copies are on the disk before it."""
    disk = Disk(monkeypatch)
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:
        store = BlobStore(Path(elsewhere))
        assert store.folder.stat().st_dev != shelf.folder.stat().st_dev
        for digest, data in RELEASE.blobs.items():
            store.path(digest).write_bytes(data)
        shelf.keep_manifest(RELEASE.digest, RELEASE.data)
        shelf.lay_out(RELEASE.digest, RELEASE.manifest, store)

    laid_out = shelf.path(RELEASE.digest) / "files" / "model.onnx"
    assert laid_out.read_bytes() == b"the graph of acme/digits:1"
    assert laid_out.stat().st_mode & 0o777 == 0o444
    draft = shelf.path(RELEASE.digest).with_suffix(".draft")
    assert all(("sync", str(draft / "files" / entry.path)) in disk.happened for entry in RELEASE.manifest.files)


def test_a_module_is_synced_before_it_has_its_name(shelf, blobs, monkeypatch):
    """A power cut leaves no module whose manifest or names were still in memory: both are synced, then renamed."""
    shelf.keep_manifest(RELEASE.digest, RELEASE.data)
    home, disk = shelf.path(RELEASE.digest), Disk(monkeypatch)
    draft = home.with_suffix(".draft")
    shelf.lay_out(RELEASE.digest, RELEASE.manifest, blobs)

    assert disk.lasts(home)
    before = disk.happened[: disk.happened.index(("name", str(draft), str(home)))]
    assert {
        ("sync", str(draft / "manifest.json.partial")),
        ("sync", str(draft)),
        ("sync", str(draft / "files")),
    } <= set(before)


def test_a_manifest_is_on_the_disk_before_an_order_is_followed(shelf, monkeypatch):
    """It is written once, and an agent that starts after a power cut must find it whole under its name."""
    disk = Disk(monkeypatch)
    shelf.keep_manifest(RELEASE.digest, RELEASE.data)
    (path,) = shelf.folder.glob("*.manifest")

    assert disk.synced(path)
    assert disk.lasts(path)


def test_a_half_laid_out_module_is_not_there(shelf, blobs):
    """A missing blob leaves no module, and when it is back the module is made."""
    shelf.keep_manifest(RELEASE.digest, RELEASE.data)
    path = blobs.path(RELEASE.manifest.files[1].sha256)
    data = path.read_bytes()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        shelf.lay_out(RELEASE.digest, RELEASE.manifest, blobs)
    assert not shelf.path(RELEASE.digest).exists()

    path.write_bytes(data)
    shelf.lay_out(RELEASE.digest, RELEASE.manifest, blobs)
    assert shelf.path(RELEASE.digest).is_dir()


def test_only_the_ordered_manifest_is_kept(shelf):
    """Other bytes than the digest's are refused, when they come and when they are read."""
    with pytest.raises(Untrusted):
        shelf.keep_manifest(RELEASE.digest, OTHER.data)
    shelf.keep_manifest(RELEASE.digest, RELEASE.data)
    next(shelf.folder.glob("*.manifest")).write_bytes(OTHER.data)
    with pytest.raises(Untrusted):
        shelf.manifest(RELEASE.digest)


def test_a_module_that_proves_nothing_has_no_samples(shelf):
    """ready-only modules carry none."""
    release = make(prove="ready-only")

    assert shelf.samples(release.digest, release.manifest) is None


def test_pruning_spares_what_is_named_and_what_is_young(shelf, blobs):
    """Folders of unnamed modules go at once; a young manifest may belong to an order that is being verified."""
    for release in (RELEASE, OTHER):
        shelf.keep_manifest(release.digest, release.data)
    shelf.lay_out(RELEASE.digest, RELEASE.manifest, blobs)
    shelf.prune([OTHER.digest])
    assert not shelf.path(RELEASE.digest).exists()
    assert shelf.manifest(RELEASE.digest) == RELEASE.manifest

    for path in shelf.folder.glob("*.manifest"):
        os.utime(path, (1, 1))
    shelf.prune([OTHER.digest])
    assert [path.suffix for path in shelf.folder.iterdir()] == [".manifest"]
    assert shelf.manifest(OTHER.digest) == OTHER.manifest
