"""The product's programs as processes of their own, without the seconds that their imports take each time.

Of each program one process is kept that has imported what it needs, and nothing more; it forks whenever the program is
started (``tests/parts/warmed.py``). What is forked runs ``python -m PROGRAM`` from its first line, with its own
arguments, environment, streams and process id. Where that would not be the same, a new Python is started: for
benchmarks, for coverage, and for an environment that a Python reads before its first line.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

ROOT: Final = Path(__file__).parents[2]
# What each program imports by its first request, beside its ``__main__``.
PROGRAMS: Final = {
    "fleet": ("fleet.console.mount",),
    "fleet.client": (
        "fleet.client.commands.keys",
        "fleet.client.commands.login",
        "fleet.client.commands.modules",
        "fleet.client.commands.register",
        "fleet.client.commands.rollouts",
    ),
    "modules.scoring": (),
    "agent.gateway": (),
}
# All that differs from one start to the next, and that nobody reads before a program's first line.
_READ_LATER: Final = ("EDGEFLEET_", "AZUREML_", "STARTED_BY_TESTS", "PYTEST_", "DOCKER_", "PATH", "HOME", "TMPDIR")
_MEASURED: Final = "COVERAGE_PROCESS_CONFIG"
_TESTED: Final = "STARTED_BY_TESTS"
_LOOK_S: Final = 0.01
_MESSAGE: Final = 1 << 17


class Forked:
    """A process that a warm one forked, as ``subprocess.Popen`` shows one."""

    def __init__(self, warm: "_Warm", pid: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._warm, self.pid, self.args, self.environment = warm, pid, list(command), dict(environment)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._warm.ended(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal's number.

        Raises:
            subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if ends is not None and time.monotonic() > ends:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(_LOOK_S)  # another process brings it about: there is nothing to await
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(15)

    def kill(self) -> None:
        self.send_signal(9)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.wait()


class _Warm:
    """The process that forks one program."""

    def __init__(self, program: str) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # It lasts as long as this process, and is no test's: tests.parts.left_running asks ``keeps``.
        self.environment = {name: value for name, value in os.environ.items() if name != _TESTED}
        command = [sys.executable, "-m", "tests.parts.warmed", str(its.fileno()), program, *PROGRAMS[program]]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()]
        )
        its.close()
        self._socket, self._lock = ours, threading.Lock()
        self._ended: dict[int, int] = {}
        self.pid = self._process.pid

    def start(self, command: Sequence[str], environment: Mapping[str, str], out: IO[bytes], err: IO[bytes]) -> Forked:
        asked = json.dumps({"arguments": command[3:], "environment": dict(environment)}).encode()
        with self._lock:
            socket.send_fds(self._socket, [asked], [out.fileno(), err.fileno()])
            while True:
                said = self._read()
                if "started" in said:
                    process = Forked(self, said["started"], command, environment)
                    return _forked.setdefault(process.pid, process)

    def ended(self, pid: int) -> int | None:
        """The exit status of a process that was forked; None while it runs."""
        with self._lock:
            with suppress(BlockingIOError):
                while pid not in self._ended:
                    self._read(socket.MSG_DONTWAIT)
            return self._ended.pop(pid, None)

    def _read(self, flags: int = 0) -> dict[str, int]:
        data = self._socket.recv(_MESSAGE, flags)
        if not data:
            raise AssertionError(f"the process that forks programs ended with {self._process.wait()}")
        said: dict[str, int] = json.loads(data)
        if "ended" in said:
            self._ended[said["ended"]] = said["status"]
            _forked.pop(said["ended"], None)
        return said

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


_warm: dict[str, _Warm] = {}
_forked: dict[int, Forked] = {}


def start(
    command: Sequence[str | Path], environment: Mapping[str, str], out: IO[bytes], err: IO[bytes]
) -> "Forked | subprocess.Popen[bytes]":
    """Run this, as ``subprocess.Popen`` does, with nothing to read; ``python -m PROGRAM`` is forked where it can be."""
    given = [str(part) for part in command]
    if _can_be_forked(given, environment):
        return _warm[given[2]].start(given, environment, out, err)
    return subprocess.Popen(given, cwd=ROOT, env=dict(environment), stdin=subprocess.DEVNULL, stdout=out, stderr=err)


def _can_be_forked(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    program = command[2] if command[:2] == [sys.executable, "-m"] else ""
    if program not in PROGRAMS or _TESTED not in os.environ or _MEASURED in environment:
        return False
    if program not in _warm:
        _warm[program] = _Warm(program)
        atexit.register(_warm[program].close)
    before = _warm[program].environment
    different = {name for name in before.keys() | environment.keys() if before.get(name) != environment.get(name)}
    return all(name.startswith(_READ_LATER) for name in different)


def keeps(pid: int) -> bool:
    """Whether this is a process that only forks others."""
    return any(warm.pid == pid for warm in _warm.values())


def forked(pid: int) -> Forked | None:
    """What was forked with this process id and runs."""
    return _forked.get(pid)
