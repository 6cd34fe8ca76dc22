"""The one seam between this package and the machine: read a file, list a folder, run a command.

``root`` is where the machine's files are found, so that a recorded one can stand in for it.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

RUN_S: Final = 10.0
READ_LIMIT: Final = 1 << 20


class System:
    """The machine that this runs on. What is not there is empty, because a probe asks about much that no host has."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def read(self, path: str) -> str:
        """The text of a file, at most 1 MiB; empty if it is missing or may not be read."""
        try:
            with self._at(path).open("rb") as file:
                return file.read(READ_LIMIT).decode(errors="replace").strip("\0\n ")
        except OSError:
            return ""

    def list(self, path: str) -> tuple[str, ...]:
        """The names in a folder, sorted; none if it is missing or may not be read."""
        try:
            return tuple(sorted(entry.name for entry in self._at(path).iterdir()))
        except OSError:
            return ()

    def run(self, command: Sequence[str]) -> str:
        """What a program writes to stdout; empty if it is not installed, fails, or takes longer than 10 seconds."""
        program = shutil.which(command[0])
        if program is None:
            return ""
        try:
            done = subprocess.run(  # noqa: S603 - a probe's own fixed command
                [program, *command[1:]], capture_output=True, text=True, timeout=RUN_S, check=True, env={"LC_ALL": "C"}
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()

    def machine(self) -> str:
        """The kernel's name for the processor, such as ``x86_64``."""
        return os.uname().machine

    def disk_free(self, folder: Path) -> int:
        """Bytes that this user can still write below a folder, which need not exist yet."""
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")
