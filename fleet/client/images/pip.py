"""pip as a child process: where packages come from is its own configuration, and its last words become our errors."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

from modules.errors import NeedsOperator

_CHECK: Final = "check pip's configuration (pip config list), or the name of the package"
# The oldest glibc that a manylinux tag of today names.
_OLDEST_GLIBC: Final = 17
_LIMIT_S: Final = 900
_SHOWN: Final = 1500
# What pip prints about its own configuration says nothing about the package that was asked for.
_CONFLICT: Final = "The conflict is caused by:"
_NOISE: Final = re.compile(r"^(WARNING: |\[notice\]|DEPRECATION: )")


class Inside(msgspec.Struct, frozen=True):
    """What wheels must fit: the image's Python (``3.11``), C library (``glibc``, ``2.36``) and machine."""

    python: str
    libc: str
    version: str
    machine: str

    @property
    def pip_options(self) -> list[str]:
        """Options of pip for fetching wheels that run there, whatever runs here."""
        newest = int(self.version.split(".")[1])
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
        tags.append(f"manylinux2014_{self.machine}")
        platforms = [option for tag in tags for option in ("--platform", tag)]
        return ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.python}", *platforms]

    def __str__(self) -> str:
        return f"Python {self.python}, {self.libc} {self.version}, {self.machine}"


class PipFailed(NeedsOperator):
    """pip ended with an error; ``said`` is what it printed, without its remarks on its own configuration."""

    code = "pip-failed"

    def __init__(self, said: str, *, element: str = "pip", remedy: str = _CHECK) -> None:
        super().__init__(said[-_SHOWN:], element=element, remedy=remedy)
        self.said = said


def pip(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run ``pip ARGUMENTS``, with these variables besides our own.

    Raises:
        PipFailed: it ended with an error.
        NeedsOperator: it did not end in time.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    verb = next(word for word in arguments if not word.startswith("-"))
    try:
        done = subprocess.run(  # noqa: S603 - our own list
            command,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
            env=os.environ | dict(environment or {}),
        )
    except subprocess.TimeoutExpired as error:
        raise NeedsOperator(f"did not end within {_LIMIT_S} s", element=f"pip {verb}") from error
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if not _NOISE.match(line)]
        # Which versions fight is the one thing that pip explains on its standard output.
        _, begin, rest = done.stdout.partition(_CONFLICT)
        shown = [*lines, begin + rest.partition("\n\n")[0]] if begin else lines
        raise PipFailed("\n".join(shown), element=f"pip {verb}")
