"""After a failed run of the suite: the tests that failed once more, alone.

A few of thousands of tests miss their time on a machine that others load too. What passes alone is named as unsteady,
to be mended, and does not fail the run; so is a file whose process was still ending. More failures than :func:`most`
says are no accident and are not tried again.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.parts.left_running import FOUND

# Of so many tests of the run, one may be unsteady; of a short run, a few.
ONE_IN: Final = 400
AT_LEAST: Final = 3
_COLLECTED: Final = "edgefleet/collected"
_FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")
_LEFT_RUNNING: Final = Path(".pytest_cache/d", FOUND)


def remember(config: pytest.Config, collected: int) -> None:
    """Keep how many tests this run has; where others run them, each of those says the same."""
    if cache := getattr(config, "cache", None):
        cache.set(_COLLECTED, collected)


def most() -> int:
    """How many failures of the last run may be accidents."""
    file = Path(".pytest_cache/v", _COLLECTED)
    collected = json.loads(file.read_text()) if file.exists() else 0
    return max(AT_LEAST, collected // ONE_IN)


def main() -> int:
    """0 when everything that failed passes alone.

    Arguments go to pytest.
    """
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    left = [file.read_text() for file in sorted(_LEFT_RUNNING.glob("*"))]
    sys.stdout.writelines(left)
    if not 0 < len(failed) <= most():
        return 1
    command = [sys.executable, "-m", "pytest", *sys.argv[1:], *failed]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        sys.stdout.writelines(f"UNSTEADY: {test} failed in the suite and passed alone\n" for test in failed)
    return status


if __name__ == "__main__":
    sys.exit(main())
