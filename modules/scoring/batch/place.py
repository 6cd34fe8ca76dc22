"""Where a scoring server of a run has its socket: a folder of its own, which goes with it or at a later start.

A run that is killed takes nothing away. Whoever lives holds a lock on its folder, so what nobody holds was left.
"""

import fcntl
import os
import shutil
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Final

PREFIX: Final = "edgefleet-batch-"
# At one start; the others wait for the next.
MOST: Final = 100
# Another process may be about to lock what it has just made.
YOUNG_S: Final = 60.0


class SocketPlace:
    """``path`` is free for a socket until ``close``."""

    def __init__(self) -> None:
        sweep()
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        self._held = os.open(self._folder.name, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        self.path = Path(self._folder.name, "s.sock")

    def close(self) -> None:
        if self._held >= 0:
            self._folder.cleanup()
            os.close(self._held)
            self._held = -1


def sweep() -> None:
    """Take away what runs of this user that were killed have left."""
    for found in islice(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"), MOST):
        try:
            held = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(held)
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > YOUNG_S:
                shutil.rmtree(found, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(held)
