"""python-tuf works without the HTTP client that it brings."""

import subprocess
import sys

PROGRAM = """
from modules.trust.updater import Updater

Updater("/nonexistent", "https://127.0.0.1/", bootstrap=b"")
"""


def test_no_fetcher():
    """An updater that would use python-tuf's own HTTP client says what is missing, instead of opening connections."""
    # A process of its own: another test may have imported python-tuf whole.
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)

    assert "give the updater a fetcher" in done.stderr
