"""Uploads: whole or not at all, bounded, forgotten in time, and on no way to a device."""

import os
from contextlib import ExitStack

import pytest

from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.refusals import Busy, Missing, TooLarge
from fleet.selectors import parse
from fleet.settings import Settings
from fleet.uploads.uploads import AT_ONCE, Uploads, file_name
from modules.digests import sha256
from modules.errors import Invalid
from modules.names import Slug
from tests.doubles.disk import Disk

ACME, ZEBRA = Slug("acme"), Slug("zebra")
DATA = b"a model" * 1000


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def kept(tmp_path, database):
    """Uploads of at most 20 kB together, kept for a minute."""
    made = Uploads(database, tmp_path / "uploads", Clock(), Settings(max_uploads_bytes=20_000, keep_uploads_s=60))
    made.folder, made.clock = tmp_path / "uploads", made._clock
    return made


def bring(kept, data=DATA, team=ACME, name="model.onnx"):
    with kept.incoming(len(data)) as incoming:
        incoming.write(data)
        received = incoming.finish()
    return kept.keep(team, name, received, by="ann")


def files(kept):
    return [one for one in kept.folder.rglob("*") if one.is_file()]


def test_what_came_is_told_by_its_digest_and_lies_there_byte_for_byte(kept):
    """The server says what it hashed itself, and the same bytes again live longer."""
    new, shown = bring(kept)
    assert new
    assert shown["digest"] == sha256(DATA)
    assert kept.path(shown["digest"]).read_bytes() == DATA
    kept.clock.now += 30
    again, later = bring(kept, name="other.onnx")
    assert not again
    assert later["expires"] == shown["expires"] + 30
    assert [one["name"] for one in kept.view_all(EVERYTHING)] == ["other.onnx"]


def test_what_is_kept_outlives_a_power_cut(kept, monkeypatch):
    """Its bytes and its name are on the disk before anybody is told of it."""
    disk = Disk(monkeypatch)
    _, shown = bring(kept)
    path = kept.path(shown["digest"])
    assert disk.synced(path)
    assert disk.lasts(path)


def test_who_is_bounded_to_a_team_sees_its_uploads_alone(kept):
    """And what two teams brought stays until both have forgotten it."""
    bring(kept)
    bring(kept, team=ZEBRA)
    mine = Scope((Area(parse("*"), frozenset({"zebra"})),))
    assert [one["team"] for one in kept.view_all(mine)] == ["zebra"]
    kept.remove(ACME, sha256(DATA))
    with pytest.raises(Missing):
        kept.view(ACME, sha256(DATA))
    assert kept.view(ZEBRA, sha256(DATA))["length"] == len(DATA)
    kept.remove(ZEBRA, sha256(DATA))
    assert files(kept) == []


def test_all_together_are_bounded_while_they_come_and_when_they_are_kept(kept):
    """Whoever says how long it is hears it first; whoever lies is cut off; nothing of it stays."""
    bring(kept)
    with pytest.raises(TooLarge, match="13000 bytes left"):
        kept.incoming(13_001)
    with pytest.raises(TooLarge), kept.incoming(1) as incoming:
        incoming.write(b"x" * 13_001)
    with kept.incoming(0) as one, kept.incoming(0) as other:
        one.write(b"1" * 10_000)
        with pytest.raises(TooLarge):
            other.write(b"2" * 10_000)
    assert len(files(kept)) == 1


def test_so_many_come_in_at_a_time_and_no_more(kept):
    with ExitStack() as coming:
        for _ in range(AT_ONCE):
            coming.enter_context(kept.incoming(0))
        with pytest.raises(Busy), kept.incoming(0):
            pass
    with kept.incoming(0):
        pass


def test_what_nobody_signed_in_time_is_forgotten_with_its_file(kept):
    """And so is a file that a crash left without a row, once it is old."""
    bring(kept)
    kept.forget_old()
    assert len(files(kept)) == 1
    kept.clock.now += 61
    with pytest.raises(Missing):
        kept.view(ACME, sha256(DATA))
    for file in files(kept):
        os.utime(file, (0, 0))
    kept.forget_old()
    assert files(kept) == []
    assert kept.view_all(EVERYTHING) == []


def test_what_a_crash_cut_off_is_gone_at_the_next_start(kept, database):
    left = kept.folder / "incoming" / "left"
    left.write_bytes(b"half")
    Uploads(database, kept.folder, kept.clock, Settings())
    assert files(kept) == []


@pytest.mark.parametrize("name", ["", "../x.onnx", "a/b.onnx", ".hidden", "x" * 101, "<script>", "a\nb"])
def test_a_name_that_no_file_of_a_module_has_is_refused(name):
    with pytest.raises(Invalid):
        file_name(name)
