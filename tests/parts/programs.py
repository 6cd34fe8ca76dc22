"""The product's programs as processes: each with a log, awaited with a deadline, stopped by process id."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TypeVar

from tests.parts.left_running import owner, started_for
from tests.parts.pace import stretched
from tests.parts.warm import Forked, start

T = TypeVar("T")

READY_WITHIN_S = 60.0
STOPS_WITHIN_S = stretched(30.0)
_LOOK_S = 0.05
_TAIL = 6000


class Program:
    """One program, which can be started, killed and started again; all its runs write one log.

    It may run for as long as what made it lasts, a test or the whole session, whoever starts it again.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self._command, self._log = name, [str(part) for part in command], log
        self._environment = dict(environment or {})
        self._owner = owner()
        self._process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, ready: Callable[[], object] = lambda: True) -> None:
        """Start it, and return when it is ready."""
        assert not self.runs, f"{self.name} runs already"
        with self._log.open("ab") as log, started_for(self._owner):
            self._process = start(self._command, os.environ | self._environment, log, log)
        until(lambda: ready() or not self.runs, f"{self.name} is ready", within_s=READY_WITHIN_S, said=self.said)
        assert self.runs, f"{self.name} ended with {self._process.returncode}:\n{self.said()}"

    def stop(self) -> None:
        """Ask it to end, and wait; one that does not end is killed, which is an error."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end:\n{self.said()}") from None

    def kill(self) -> None:
        """End it without a word, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        """The end of its log."""
        log = self._log.read_bytes() if self._log.exists() else b""
        return f"--- {self.name}\n{log[-_TAIL:].decode(errors='replace')}"


class CommandFailed(Exception):
    """A command of the product exited with an error: its exit code, and what it printed on both streams."""

    def __init__(self, command: Sequence[str], code: int, out: str, err: str) -> None:
        super().__init__(f"{' '.join(command)} exited with {code}:\n{err}{out}")
        self.code, self.out, self.err = code, out, err


def run(*arguments: str | Path, environment: Mapping[str, str] | None = None, within_s: float = 120.0) -> str:
    """``python -m ARGUMENTS`` to its end; returns what it printed.

    Raises:
        CommandFailed: it exited with an error.
    """
    command = [sys.executable, "-m", *map(str, arguments)]
    with TemporaryFile() as out, TemporaryFile() as err:
        with start(command, os.environ | dict(environment or {}), out, err) as process:
            try:
                code = process.wait(stretched(within_s))
            finally:
                process.kill()
        printed, errors = (_text(stream) for stream in (out, err))
    if code:
        raise CommandFailed(command[2:], code, printed, errors)
    return printed


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()


def until(look: Callable[[], T], what: str, *, within_s: float, said: Callable[[], str] = str) -> T:
    """The first true thing that ``look`` returns; where it takes too long, fails with what the programs said.

    ``within_s`` is for the usual machine.
    """
    within_s = stretched(within_s)
    ends = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < ends, f"not within {within_s:g} s: {what}\n{said()}"
        time.sleep(_LOOK_S)  # another process brings it about: there is nothing to await
    return found
