"""Folders of sockets: whoever lives keeps its own, and what a killed run has left goes at a later start."""

import os
import subprocess
import sys
import time

import pytest

from modules.scoring.batch import place
from modules.scoring.batch.place import SocketPlace
from tests.parts.warm import ROOT

KILLED = """
import os
from modules.scoring.batch.place import SocketPlace
one = SocketPlace()
one.path.touch()
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(place.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def aged(folder):
    then = time.time() - place.YOUNG_S - 1
    os.utime(folder, (then, then))


def test_what_a_killed_run_left_goes_at_the_next_start(temporary):
    """Not while it is young: its maker may be about to lock it."""
    environment = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, env=environment, check=False)
    assert done.returncode == -9
    (left,) = temporary.iterdir()
    place.sweep()
    assert left.exists()
    aged(left)
    SocketPlace().close()
    assert list(temporary.iterdir()) == []


def test_nothing_else_goes(temporary):
    """What another run holds, a link of that name, what has another name, and what is beyond the bound."""
    held = SocketPlace()
    (temporary / "edgefleet-other").mkdir()
    (temporary / "edgefleet-batch-link").symlink_to(temporary / "edgefleet-other")
    aged(held.path.parent)
    aged(temporary / "edgefleet-other")
    place.sweep()
    assert {one.name for one in temporary.iterdir()} == {
        held.path.parent.name, "edgefleet-other", "edgefleet-batch-link"
    }  # fmt: skip
    held.close()


def test_no_start_waits_for_many(temporary, monkeypatch):
    """As many as the bound at a time."""
    monkeypatch.setattr(place, "MOST", 2)
    for number in range(3):
        folder = temporary / f"{place.PREFIX}{number}"
        folder.mkdir()
        aged(folder)
    place.sweep()
    assert len(list(temporary.iterdir())) == 1
