"""How much memory a process took at most in the meantime, as the kernel kept it."""

import os
import re
from pathlib import Path
from typing import Self


class Peak:
    """``grown_mib`` is how far the process's memory rose, at its highest, above what it was when this began."""

    def __init__(self, pid: int | None = None) -> None:
        self._proc = Path("/proc") / str(pid or os.getpid())
        self.grown_mib = 0.0

    def __enter__(self) -> Self:
        # proc(5): lets the kernel begin its record of the peak anew.
        (self._proc / "clear_refs").write_text("5")
        self._before = self._said("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.grown_mib = (self._said("VmHWM") - self._before) / 1024

    def _said(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found, f"the kernel says no {name}"
        return int(found[1])
