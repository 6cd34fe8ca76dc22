"""After a failed run of the suite: the tests that failed once more, alone.

A few of thousands of tests miss their time on a machine that others load too. What passes alone is named as unsteady,
to be mended, and does not fail the run; so is a file whose process was still ending. More than ``MOST`` failures are no
accident and are not tried again.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.parts.left_running import FOUND

MOST: Final = 3
_FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")
_LEFT_RUNNING: Final = Path(".pytest_cache/d", FOUND)


def main() -> int:
    """0 when everything that failed passes alone.

    Arguments go to pytest.
    """
    failed = sorted(json.loads(_FAILED.read_text())) if _FAILED.exists() else []
    left = [file.read_text() for file in sorted(_LEFT_RUNNING.glob("*"))]
    sys.stdout.writelines(left)
    if not 0 < len(failed) <= MOST:
        return 1
    command = [sys.executable, "-m", "pytest", "--cov", "--cov-append", "--cov-report=", *sys.argv[1:], *failed]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        sys.stdout.writelines(f"UNSTEADY: {test} failed in the suite and passed alone\n" for test in failed)
    return status


if __name__ == "__main__":
    sys.exit(main())
