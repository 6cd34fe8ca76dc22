"""Processes that do not outlive this one, however it ends: the kernel itself asks them to end, too."""

import os
from typing import Final

# 1 is PR_SET_PDEATHSIG, which stays set over exec. Whoever has lost its parent before that is through.
_START: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("edgefleet ended meanwhile")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def ends_with_us(python: str, *arguments: str) -> list[str]:
    """A command that runs Python with these arguments; to be started from the main thread, whose end counts."""
    return [python, "-c", _START, str(os.getpid()), *arguments]
