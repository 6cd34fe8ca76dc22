"""What is known of each input: after any end of the run, at any byte of a journal."""

import errno
import fcntl
import os
import random
from contextlib import closing

import pytest

from modules.errors import BadSettings, Invalid, NoSpace
from modules.scoring.batch import results
from modules.scoring.batch.ledger import ANSWERED, ASIDE, InUse, Ledger, Plan, Reason
from tests.doubles.disk import Disk

PLAN = Plan(module="m", inputs="i", items=6)
WHY = Reason(kind="refused", reason="no")


def opened(folder, plan=PLAN, workers=1):
    return closing(Ledger(folder, plan, workers))


def test_what_was_settled_stays_settled(tmp_path):
    """Another start knows it, with fewer workers or more, in the order of the inputs."""
    with opened(tmp_path, workers=3) as ledger:
        ledger.begin(2, [4, 1], alone=False)
        ledger.answered(2, 4, b'{"a":4}')
        ledger.set_aside(1, 0, WHY)
        ledger.answered(0, 2, b'{"a":2}')
        ledger.tried(0, 3, "died")
    for workers in (1, 5):
        with opened(tmp_path, workers=workers) as ledger:
            assert list(ledger.answers()) == [(2, b'{"a":2}'), (4, b'{"a":4}')]
            assert list(ledger.aside()) == [(0, WHY)]
            assert list(ledger.open_items()) == [1, 3, 5]
            assert (ledger.suspects, ledger.deaths[3], ledger.counts) == ({1}, 1, {ANSWERED: 2, ASIDE: 1})


def test_what_is_told_outlives_a_power_cut(tmp_path, monkeypatch):
    """Each worker's journal where it is synced; plan, progress and answers before they have their names."""
    disk = Disk(monkeypatch)
    with opened(tmp_path, workers=2) as ledger:
        ledger.answered(1, 4, b'{"a":4}')
        ledger.sync()
        assert {("sync", str(path)) for path in tmp_path.glob("worker-*.jsonl")} <= set(disk.happened)
        ledger.replace("progress.json", {"items": 6})
        results.write(tmp_path, PLAN, ledger)
    for path in (tmp_path / "run.json", tmp_path / "progress.json", tmp_path / "answers.jsonl"):
        assert disk.synced(path)
    assert disk.lasts(tmp_path / "answers.jsonl")


def test_the_first_answer_counts(tmp_path):
    """An input that was asked again has one answer."""
    with opened(tmp_path, workers=2) as ledger:
        ledger.answered(0, 1, b'{"a":1}')
        ledger.answered(1, 1, b'{"a":2}')
        assert list(ledger.answers()) == [(1, b'{"a":1}')]
    with opened(tmp_path, workers=2) as ledger:
        assert list(ledger.answers()) == [(1, b'{"a":1}')]


def test_a_run_that_ended_while_one_was_asked_alone_is_counted(tmp_path):
    """Ended by hand it is not."""
    for times in range(3):
        with opened(tmp_path) as ledger:
            assert (ledger.ended_runs[5], 5 in ledger.suspects) == (times, times > 0)
            ledger.begin(0, [5], alone=True)
    with opened(tmp_path) as ledger:
        ledger.begin(0, [5], alone=True)
        ledger.stopped()
    with opened(tmp_path) as ledger:
        assert ledger.ended_runs[5] == 3


def test_a_journal_cut_at_any_byte_loses_at_most_its_end(tmp_path):
    """What stands in whole lines counts, and what is written then can be read again."""
    with opened(tmp_path) as ledger:
        for item in range(4):
            ledger.begin(0, [item], alone=False)
            ledger.answered(0, item, b'{"a":%d}' % item)
    whole = (tmp_path / "worker-0.jsonl").read_bytes()
    # Before the end of a line, too, where it reads as if it were whole.
    for cut in sorted({*range(0, len(whole), 3), *(place for place, byte in enumerate(whole) if byte == ord("\n"))}):
        end = b"" if whole[cut] == ord("\n") else random.Random(cut).choice([b"", b"\0\0\0", b"{\n"])
        (tmp_path / "worker-0.jsonl").write_bytes(whole[:cut] + end)
        with opened(tmp_path) as ledger:
            kept = whole[:cut].rpartition(b"\n")[0].count(b"answer")
            assert [item for item, _ in ledger.answers()] == list(range(kept)), cut
            for item in list(ledger.open_items()):
                ledger.answered(0, item, b"{}")
        with opened(tmp_path) as ledger:
            assert [item for item, _ in ledger.answers()] == list(range(PLAN.items))


def test_another_run_is_refused(tmp_path):
    """Of another module, over other inputs, or at the same time."""
    with opened(tmp_path):
        for plan in (Plan(module="n", inputs="i", items=6), Plan(module="m", inputs="j", items=6), PLAN):
            with pytest.raises(Invalid):
                Ledger(tmp_path, plan, 1)
    with pytest.raises(Invalid, match="another module"):
        Ledger(tmp_path, Plan(module="n", inputs="i", items=6), 1)
    with pytest.raises(Invalid, match="other inputs"):
        Ledger(tmp_path, Plan(module="m", inputs="j", items=6), 1)


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    """The error says what to do, and what was there is whole."""
    with opened(tmp_path) as ledger:
        ledger.answered(0, 1, b"{}")
        real = os.write

        def short(descriptor, data):
            if len(data) < 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(descriptor, data[: len(data) - 5])

        monkeypatch.setattr(os, "write", short)
        with pytest.raises(NoSpace, match="make room"):
            ledger.answered(0, 2, b'{"a":2}')
        monkeypatch.undo()
        ledger.answered(0, 3, b"{}")
    with opened(tmp_path) as ledger:
        assert [item for item, _ in ledger.answers()] == [1, 3]


def test_it_is_kept_apart_on_nfs_as_well(tmp_path, monkeypatch):
    """There, only what may be written can be locked, and a folder cannot; two runs are apart all the same."""
    real = fcntl.flock

    def as_on_nfs(descriptor, how):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with opened(tmp_path), pytest.raises(InUse), opened(tmp_path):
        pass
    with opened(tmp_path):
        pass


def test_where_nothing_can_be_locked_nothing_is_begun(tmp_path, monkeypatch):
    """It says so; two runs would spoil each other's journals."""

    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(BadSettings, match="keeps no two runs apart"), opened(tmp_path):
        pass
