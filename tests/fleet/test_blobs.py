"""The blob store."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.blobs import Blobs
from fleet.refusals import Missing, TooLarge
from modules.digests import BLOCK, Blob, check_index, measure_bytes, sha256
from modules.errors import Invalid
from tests.doubles.disk import Disk

DATA = bytes(range(256)) * 1000


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path / "blobs")


@given(st.lists(st.binary(max_size=3 * BLOCK), max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_blob_is_measured_as_it_streams_past_in_whatever_pieces(tmp_path_factory, pieces):
    """Digest, length and index are those of the whole, however the bytes arrived."""
    store, data = Blobs(tmp_path_factory.mktemp("blobs")), b"".join(pieces)
    with store.incoming(sha256(data), limit=1 << 20) as incoming:
        for piece in pieces:
            incoming.write(piece)
        blob = incoming.finish()
    assert blob == measure_bytes(data) == store.describe(blob.sha256)
    assert store.read(blob.sha256) == data
    check_index(blob, store.read(blob.blocks))


def test_wrong_bytes_never_become_a_blob(blobs, tmp_path):
    """The server believes no digest that it did not compute, and keeps nothing of the rest."""
    name = sha256(b"promised")
    with blobs.incoming(name, limit=99) as incoming:
        incoming.write(b"delivered")
        with pytest.raises(Invalid, match="the bytes that came"):
            incoming.finish()
    assert blobs.length(name) is None
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


def test_more_than_the_limit_is_refused_while_it_comes(blobs):
    """A sender cannot fill the disk first."""
    with pytest.raises(TooLarge), blobs.incoming(sha256(DATA), limit=100) as incoming:
        incoming.write(DATA)


def test_what_a_crash_left_half_written_is_gone_after_a_restart(blobs, tmp_path):
    """An unfinished upload takes no space for ever."""
    left = tmp_path / "blobs" / "incoming" / "left"
    left.write_bytes(b"half")
    Blobs(tmp_path / "blobs")
    assert not left.exists()


def test_blocks_are_read_alone(blobs):
    """Any blocks in any order; numbers after the end are left out."""
    blob = blobs.put(DATA)
    length, found = blobs.read_blocks(blob.sha256, [3, 0, 99])
    assert length == len(DATA)
    assert found == [(3, DATA[3 * BLOCK :]), (0, DATA[:BLOCK])]


def test_an_empty_blob_has_one_empty_block(blobs):
    """Asking for the first block of nothing is answered."""
    assert blobs.read_blocks(blobs.put(b"").sha256, [0]) == (0, [(0, b"")])


def test_a_wrong_length_or_index_counts_as_missing(blobs):
    """What a manifest says of a blob must be what the server measured."""
    blob = blobs.put(DATA)
    wrong_length = Blob(blob.sha256, blob.length + 1, blob.blocks)
    wrong_index = Blob(blob.sha256, blob.length, sha256(b"other"))
    assert blobs.missing([blob]) == []
    assert blobs.missing([wrong_length, wrong_index]) == [blob.sha256]


def test_an_absent_blob_is_missing(blobs):
    """Reading says so, by the whole and by blocks."""
    name = "sha256:" + hashlib.sha256(b"absent").hexdigest()
    for read in (blobs.read, lambda one: blobs.read_blocks(one, [0])):
        with pytest.raises(Missing):
            read(name)


def test_a_blob_that_is_visible_survives_a_power_cut(blobs, monkeypatch):
    """Blob, index and the note of which index it is are on the disk, bytes and names, before anybody is told of it."""
    disk = Disk(monkeypatch)
    blob = blobs.put(DATA)
    paths = [blobs.path(blob.sha256), blobs.path(blob.blocks)]

    for path in (*paths, paths[0].with_name(paths[0].name + ".blocks")):
        assert disk.synced(path)
        assert disk.lasts(path)
    for path in paths:
        assert ("sync", str(path.parent.parent)) in disk.happened, "the folder's own name"
    names = [what[2] for what in disk.happened if what[0] == "name"]
    assert names[-1] == str(paths[0]), "what it needs was there before it"
