"""The scoring server as a child: it ends when whoever started it does, however that ends."""

import ctypes
import os
import signal
import sys

from modules import program
from modules.scoring.__main__ import main

_PR_SET_PDEATHSIG = 1


def _with_parent() -> int:
    parent = int(sys.argv.pop(1))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Whoever has lost it before that is through.
    return main() if os.getppid() == parent else 1


if __name__ == "__main__":
    program.run("edgefleet-scoring", _with_parent)
