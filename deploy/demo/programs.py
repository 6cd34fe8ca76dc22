"""The demo's programs: started with a log file of their own, awaited until they answer, stopped by process id."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
_TAIL: Final = 1500


class Failed(Exception):
    """A step of the demo did not work; the message says what the program said."""


class Programs:
    """Child processes in the order of their start; stopped in the opposite order. ``record`` is told of each."""

    def __init__(self, folder: Path, record: Callable[[int], None]) -> None:
        self._record = record
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        within_s: float = 30.0,
    ) -> int:
        """Start a program, wait until ``ready`` says yes, and return its process id.

        Raises:
            Failed: it ended, or was not ready in time; with the end of its log.
        """
        path = self._logs / f"{name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **(environment or {})})
        self._running.append((name, process))
        self._record(process.pid)
        ends = time.monotonic() + within_s
        while not ready():
            if process.poll() is not None or time.monotonic() > ends:
                state = f"ended with {process.returncode}" if process.poll() is not None else "is not ready"
                raise Failed(f"{name} {state}: {path.read_text(errors='replace')[-_TAIL:]}")
            time.sleep(0.05)
        return process.pid

    def check(self) -> None:
        """Raises Failed if a program has ended by itself."""
        for name, process in self._running:
            if process.poll() is not None:
                raise Failed(f"{name} ended with {process.returncode}; see {self._logs / name}.log")

    def stop(self) -> None:
        """Ask each to end, and wait; one that does not is killed."""
        for _, process in reversed(self._running):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def run(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, within_s: float = 600.0, show: bool = False
) -> str:
    """Run a command to its end and return what it printed; with ``show``, its progress goes to the terminal.

    Raises:
        Failed: it exited with an error, or took too long.
    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{' '.join(command[:6])} took longer than {within_s:.0f} s") from error
    if done.returncode:
        said = (done.stderr or b"") + done.stdout
        raise Failed(
            f"{' '.join(command[2:6])} exited with {done.returncode}: {said.decode(errors='replace')[-_TAIL:]}"
        )
    return done.stdout.decode()


def python(*arguments: str) -> list[str]:
    """A command line for this very interpreter."""
    return [sys.executable, *arguments]


def free_port() -> int:
    """A port of the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
