"""Samples on the disk: bounded, the least important go first, and whatever happens to the file ends nothing."""

import os
import resource
import sqlite3

import pytest

from agent.telemetry.kept import Kept, Taken
from modules.errors import NoSpace

EPOCH = "a" * 16


def taken(number, size=100):
    figures = {f"figure_{n}_{'x' * 20}": float(number) for n in range(size // 40)}
    return Taken(boot="boot", at=float(number), wall=1e9, figures=figures)


def every(kept, stream):
    """All samples of a stream, oldest first; they are gone from the file afterwards."""
    found = []

    def make(samples, _dropped):
        found.extend(samples)
        return len(found), b"document"

    before = -1
    while len(found) > before:
        before = len(found)
        kept.send(stream, most_bytes=1 << 20, make=make)
        kept.sent(1 << 40)
    return [one.at for one in found]


def test_the_oldest_of_the_least_important_go_first(folder):
    """Where there is no room, the host's samples go before the gateway's and the modules', the oldest of them first;
    how many is counted."""
    kept = Kept(folder, epoch=EPOCH, most_bytes=8000)
    for stream in ("modules", "gateway", "host"):
        for number in range(12):
            kept.add(stream, [taken(number)])
    lost = kept.state().dropped
    left = {stream: every(kept, stream) for stream in ("modules", "gateway", "host")}

    assert left["modules"] == left["gateway"] == [float(n) for n in range(12)]
    assert left["host"] == [float(n) for n in range(12)][lost["host"] :]
    assert 0 < lost["host"] < 12
    assert set(lost) == {"host"}


def test_the_file_stays_within_its_bound(folder):
    """However long a device is offline; and what was sent gives its room back."""
    kept = Kept(folder, epoch=EPOCH, most_bytes=256 << 10)
    for number in range(3000):
        kept.add("host", [taken(number, 400)])
    file = folder / "telemetry.db"

    assert 200_000 < file.stat().st_size < 400_000
    assert kept.state().dropped["host"] > 2000
    assert every(kept, "host")
    assert file.stat().st_size < 64 << 10


def test_a_bound_that_is_lowered_holds_at_the_next_look(folder):
    """Settings change; the file follows."""
    for number in range(500):
        Kept(folder, epoch=EPOCH, most_bytes=1 << 20).add("host", [taken(number, 400)])
    Kept(folder, epoch=EPOCH, most_bytes=64 << 10).add("host", [taken(500, 400)])

    assert (folder / "telemetry.db").stat().st_size < 128 << 10


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b"no database at all" * 500),
        lambda file: file.write_bytes(file.read_bytes()[:5000]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:4096] + os.urandom(20_000)),
        lambda file: (file.unlink(), file.mkdir(), (file / "x").write_text("x")),
        lambda file: write(file, "DROP TABLE samples"),
        lambda file: write(file, "DELETE FROM state"),
        lambda file: write(file, "UPDATE state SET state = x'5b'"),
        lambda file: write(file, "PRAGMA user_version = 99"),
        lambda file: (file.unlink(), write(file, "CREATE TABLE other (x)")),
    ],
    ids=["noise", "cut", "empty", "torn", "folder", "no table", "no state", "bad state", "newer", "another's"],
)
def test_a_damaged_file_is_made_anew(folder, spoil):
    """Its samples are lost, and the next ones are kept."""
    kept, file = Kept(folder, epoch=EPOCH, most_bytes=1 << 20), folder / "telemetry.db"
    for number in range(20):
        kept.add("host", [taken(number)])
    spoil(file)
    for number in (100, 101, 102):
        try:
            kept.add("host", [taken(number)])
        except NoSpace:
            assert number == 100

    assert every(kept, "host")[-2:] == [101.0, 102.0]


def write(file, statement):
    with sqlite3.connect(file) as db:
        db.execute(statement)
    db.close()


def test_a_row_that_cannot_be_read_takes_only_the_samples(folder):
    """A sample that is no sample is found when it is its turn; then all begins anew."""
    kept = Kept(folder, epoch=EPOCH, most_bytes=1 << 20)
    kept.add("host", [taken(1)])
    write(folder / "telemetry.db", "UPDATE samples SET sample = x'00ff'")
    with pytest.raises(NoSpace):
        kept.waiting()
    kept.add("host", [taken(2)])

    assert every(kept, "host") == [2.0]


def test_a_full_disk_loses_samples_and_counts_them(folder):
    """No byte can be written: the look is lost, said so, and counted once there is room."""
    kept = Kept(folder, epoch=EPOCH, most_bytes=1 << 20)
    kept.add("host", [taken(1)])
    size = (folder / "telemetry.db").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(NoSpace, match="no telemetry can be kept"):
            kept.add("host", [taken(n, 400) for n in range(100)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept.add("host", [taken(2)])

    assert kept.state().dropped == {"host": 100}
    assert every(kept, "host") == [1.0, 2.0]


def test_a_file_that_another_program_holds_is_no_damage(folder):
    """Nothing is thrown away for it."""
    kept = Kept(folder, epoch=EPOCH, most_bytes=1 << 20)
    kept.add("host", [taken(1)])
    held = sqlite3.connect(folder / "telemetry.db", isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    with pytest.raises(NoSpace, match="end the program that holds the database"):
        kept.add("host", [taken(2)])
    held.execute("ROLLBACK")
    held.close()

    assert every(kept, "host") == [1.0]


def test_counts_begin_anew_with_the_devices_epoch(folder):
    """What was dropped is told of one epoch."""
    kept = Kept(folder, epoch=EPOCH, most_bytes=1000)
    kept.add("host", [taken(n, 400) for n in range(10)])
    assert kept.state().dropped["host"] > 0

    assert Kept(folder, epoch="b" * 16, most_bytes=1000).state().dropped == {}
