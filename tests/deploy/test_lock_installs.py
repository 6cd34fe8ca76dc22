"""Each lock really installs, into an empty environment, each package checked by hash."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from tests.parts.pace import stretched

LOCKS = ["constraints.txt", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("deploy/locks/*.txt"))]
INSTALLS_WITHIN_S = 1500


@pytest.mark.long
@pytest.mark.timeout(INSTALLS_WITHIN_S + 300)
@pytest.mark.parametrize("newest", [False, True], ids=["pip that Python brings", "newest pip"])
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_installs(lock, newest):
    """A lock names all that it needs, with hashes, for the pip that this Python brings along and for the newest one."""
    # Not in pytest's folder, which keeps some runs: an environment may take gigabytes.
    with tempfile.TemporaryDirectory(prefix="edgefleet-lock-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=stretched(120))
        if newest:
            pip(folder, "install", "--upgrade", "pip")
        pip(folder, "install", "--require-hashes", "-r", ROOT / lock)
        pip(folder, "check")


def pip(folder, *arguments):
    """Run pip; its error fails the test, with its words."""
    command = [Path(folder, "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLS_WITHIN_S, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
