"""No process outlives the tests that started it: what a file of tests leaves behind is ended, and fails the file.

A file's tests share what they start, so the look is after the last test of each file. Found are the descendants of this
process, and what once was one: everything that tests start inherits a variable with this process's mark, and
``PYTEST_CURRENT_TEST``, which names the test. What fixtures of the whole session start may run until its end.
Containers are nobody's descendants here, and are not looked for. What lost both its parent and its environment, or was
forked from this process without a program of its own and then lost its parent, is not seen.
"""

import os
import secrets
import signal
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.parts import warm

# What ends needs a moment for it: a killed group, a worker whose pipe was closed.
GRACE_S: Final = 15.0
# Folder in pytest's cache with one file for each process that found something: tests.parts.again reads it.
FOUND: Final = "left_running"
_MARK: Final = "STARTED_BY_TESTS"
_WHOLE_SESSION: Final = "-session"
_LOOK_S: Final = 0.05
_ENDS_WITHIN_S: Final = 2.0
_ROUNDS: Final = 5
# One per process that uses multiprocessing or joblib; ends with it, when a pipe closes.
_ENDS_WITH_US: Final = b"resource_tracker"
_PROC: Final = Path("/proc")


def owner() -> str:
    """For whom what is started now may run: the present test's file, or the session."""
    return os.environ.get(_MARK, "")


@contextmanager
def started_for(whom: str) -> Iterator[None]:
    """What is started meanwhile may run as long as this owner lasts: what a test starts again that all of them use."""
    before = owner()
    os.environ[_MARK] = whom
    try:
        yield
    finally:
        os.environ[_MARK] = before


class _Process(NamedTuple):
    """A process by number and start, which together no other process has."""

    pid: int
    parent: int
    began: int

    def read(self, what: str) -> bytes:
        """Its command line or environment; nothing if it ended, or is another user's and we are not root."""
        try:
            return (_PROC / str(self.pid) / what).read_bytes()
        except OSError:
            return b""

    def environment(self) -> bytes:
        """As it was when its program began."""
        forked = warm.forked(self.pid)
        return (
            "\0".join(f"{name}={value}" for name, value in forked.environment.items()).encode()
            if forked
            else (self.read("environ"))
        )

    def runs(self) -> bool:
        now = running(self.pid)
        return now is not None and now.began == self.began

    def send(self, number: signal.Signals) -> None:
        if self.runs():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)

    def __str__(self) -> str:
        """The test that started it, as far as that can be seen, and what it is."""
        variables = dict(pair.partition(b"=")[::2] for pair in self.environment().split(b"\0"))
        test = variables.get(b"PYTEST_CURRENT_TEST", b"a test of this file").decode(errors="replace")
        forked = warm.forked(self.pid)
        shown = self.read("cmdline").rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        command = " ".join(forked.args) if forked else shown
        return f"{test} left process {self.pid} running: {command[:200]}"


class LeftRunning:
    """The pytest plugin, of a process that runs tests itself."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._token = secrets.token_hex(8)
        ourselves = running(os.getpid())
        assert ourselves is not None
        self._began = ourselves.began
        # A run inside a test keeps the mark of the outer one, which finds what the inner one loses.
        self._mark = f"{os.environ.get(_MARK, '')} {self._token}".lstrip()
        os.environ[_MARK] = self._mark

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        if fixturedef.scope not in {"session", "package"}:
            return (yield)
        with started_for(self._mark + _WHOLE_SESSION):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item, nextitem):
        last = nextitem is None or nextitem.path != item.path
        try:
            result = yield
        except BaseException as error:
            if last:
                for line in self._left(at_end=nextitem is None):
                    error.add_note(line)
            raise
        if last and (left := self._left(at_end=nextitem is None)):
            pytest.fail("\n".join(left), pytrace=False)
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        """A run that stops early tears down here."""
        if left := self._left(at_end=True):
            sys.stderr.write("\n".join(["", *left, ""]))
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _left(self, *, at_end: bool) -> list[str]:
        """A line for each process that still runs after the grace; none of them runs afterwards."""
        ends = time.monotonic() + GRACE_S
        while found := self._running(at_end=at_end):
            if time.monotonic() > ends:
                break
            time.sleep(_LOOK_S)  # they end by themselves, or not: there is nothing to await
        lines = []
        # One that does not heed its end may start another meanwhile.
        for _ in range(_ROUNDS):
            lines += map(str, found)
            _end(found)
            if not (found := self._running(at_end=at_end)):
                break
        if lines and (cache := getattr(self._config, "cache", None)):
            folder = cache.mkdir(FOUND)
            with (folder / f"{os.getpid()}.txt").open("a") as file:
                file.writelines(f"{line}\n" for line in lines)
        return lines

    def _running(self, *, at_end: bool) -> list[_Process]:
        # Nothing that is older than this process was started by it: its environment need not be read.
        younger = {process.pid: process for process in _processes() if process.began >= self._began}
        younger.pop(os.getpid(), None)
        environments = {process.pid: process.environment() for process in younger.values()}
        ours = _with_descendants({os.getpid()}, younger.values())
        whole = f"{self._token}{_WHOLE_SESSION}".encode()
        # Some write their title over their environment, as PostgreSQL's do: what they descend from says whose they are.
        session = {pid for pid, environment in environments.items() if whole in environment}
        lasting = frozenset() if at_end else _with_descendants(session, younger.values())
        found = []
        for process in younger.values():
            if process.pid not in ours and self._token.encode() not in environments[process.pid]:
                continue
            if process.pid in lasting:
                continue
            if warm.keeps(process.pid):
                continue
            if process.parent == os.getpid() and _ENDS_WITH_US in process.read("cmdline"):
                continue
            found.append(process)
        return found


def _with_descendants(pids: set[int], processes: Collection[_Process]) -> frozenset[int]:
    while more := {process.pid for process in processes if process.parent in pids} - pids:
        pids = pids | more
    return frozenset(pids)


def _end(processes: list[_Process]) -> None:
    """Ask them to end, and end those that do not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            process.send(number)
        ends = time.monotonic() + _ENDS_WITHIN_S
        while any(process.runs() for process in processes) and time.monotonic() < ends:
            time.sleep(_LOOK_S)


def _processes() -> Iterator[_Process]:
    for name in os.listdir(_PROC):  # noqa: PTH208 - several times as fast, and done after each file
        if name.isdecimal() and (process := running(int(name))):
            yield process


def running(pid: int) -> _Process | None:
    """A process that has not ended: one that nobody has waited for yet has."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name, in brackets, may hold anything.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in b"ZX" else _Process(pid, int(fields[1]), int(fields[19]))
