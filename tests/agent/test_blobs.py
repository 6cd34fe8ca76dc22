"""The blob store: what has a name is whole, what is partial needs no record, and pruning spares what is named."""

import os
import tracemalloc

import pytest

from agent.blobs import BlobStore
from modules.digests import BLOCK, Blob, measure_bytes, sha256
from modules.errors import Invalid
from tests.doubles.blob_server import index_of
from tests.doubles.disk import Disk


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "blobs")


def put(store, data, *, age=0):
    blob = measure_bytes(data)
    store.path(blob.sha256).write_bytes(data)
    os.utime(store.path(blob.sha256), (1000 - age, 1000 - age))
    return blob


def test_a_blob_is_here_when_it_is_whole(store):
    """A missing blob, or one of another length, is not here."""
    blob = put(store, b"abc")

    assert store.has(blob)
    assert not store.has(Blob(blob.sha256, 4, blob.blocks))
    assert not store.has(measure_bytes(b"other"))


def test_small_blobs_are_their_own_index(store):
    """Blobs of no or one block need no index file; others have none until it is kept."""
    one, two = measure_bytes(b"abc"), measure_bytes(b"x" * BLOCK + b"y")

    assert store.index(measure_bytes(b"")) == b""
    assert store.index(one) == index_of(b"abc")
    assert store.index(two) is None
    store.keep_index(two, index_of(b"x" * BLOCK + b"y"))
    assert store.index(two) == index_of(b"x" * BLOCK + b"y")


def test_a_partial_blob_is_private_and_survives(store):
    """It is made at full length for the agent alone, and opening it again loses nothing."""
    data = b"x" * BLOCK + b"y"
    blob = measure_bytes(data)
    with store.open_partial(blob) as stream:
        os.pwrite(stream.fileno(), b"x" * BLOCK, 0)
    with store.open_partial(blob) as stream:
        assert store.missing(index_of(data), stream) == {1}
        assert os.fstat(stream.fileno()).st_mode & 0o777 == 0o600


def test_a_finished_blob_is_read_once_more(store):
    """A partial blob gets its name only if the whole is right; otherwise it is removed."""
    blob = measure_bytes(b"abc")
    with store.open_partial(blob) as stream:
        stream.write(b"abc")
    store.finish(blob)
    assert store.has(blob)

    wrong = Blob(sha256(b"other"), 3, blob.blocks)
    with store.open_partial(wrong) as stream:
        stream.write(b"abc")
    with pytest.raises(Invalid):
        store.finish(wrong)
    assert not list(store.folder.glob("*.part"))


def test_a_blob_has_its_name_only_when_its_bytes_are_on_the_disk(store, monkeypatch):
    """By its name alone it is believed after a power cut, so bytes come before name, and the name lasts."""
    disk, blob = Disk(monkeypatch), measure_bytes(b"abc")
    with store.open_partial(blob) as stream:
        stream.write(b"abc")
    store.finish(blob)

    assert disk.synced(store.path(blob.sha256))
    assert disk.lasts(store.path(blob.sha256))


def test_an_index_that_a_power_cut_tore_is_fetched_again(store):
    """It is the one file that is not synced, for whoever reads it holds it against its digest."""
    blob, index = measure_bytes(b"x" * BLOCK + b"y"), index_of(b"x" * BLOCK + b"y")
    store.keep_index(blob, index)
    (path,) = store.folder.glob("*.index")
    for torn in (b"", index[:-1], b"\0" * len(index)):
        path.write_bytes(torn)
        assert store.index(blob) is None


def test_pruning_frees_the_oldest_unnamed_first(store):
    """Within the budget nothing goes; above it the oldest go, and what is named never."""
    named, old, young = put(store, b"a" * 100, age=30), put(store, b"b" * 100, age=20), put(store, b"c" * 100, age=10)

    assert store.prune([named.sha256], 300) == 0
    assert store.prune([named.sha256], 250) == 100
    assert (store.has(named), store.has(old), store.has(young)) == (True, False, True)
    assert store.prune([named.sha256], 0) == 100
    assert store.has(named)


def test_a_blob_is_read_with_little_memory(store):
    """A buffer beyond 128 kB, once freed, makes the allocator keep as much for good, in each thread."""
    blob = put(store, os.urandom(4 << 20))
    tracemalloc.start()
    try:
        assert store.sound(blob)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_a_blob_that_the_disk_has_changed_is_forgotten(store):
    blob = put(store, b"a" * BLOCK + b"b")
    store.path(blob.sha256).write_bytes(b"a" * BLOCK + b"c")

    assert not store.sound(blob)
    assert not store.has(blob)
