"""Mutants on trial: into a copy of the tree goes one mutant at a time, and the tests nearest to its file are run."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from tests.house.tree import ROOT
from tests.mutants.mutations import Mutation

_NOT_COPIED: Final = (".*", "__pycache__", "build", "dist")
_PYTEST: Final = ("-x", "-q", "--no-header", "--no-cov", "-p", "no:cacheprovider", "-p", "no:xdist")
# Beside other work, and beside each other, the longest take minutes; what takes longer than this will not end.
_BEFORE_MUTANTS_S: Final = 900.0
# A mutant may wait for what never comes: this many times what the tests take otherwise, and some seconds.
_TIMES, _MORE_S = 2.0, 10.0


class Case(NamedTuple):
    """A mutant of a file, by its path from the root, and the tests that should notice it."""

    file: str
    tests: tuple[str, ...]
    mutation: Mutation


class Unchanged:
    """How long tests take without a mutant, in seconds: measured once, by whichever bench asks first."""

    def __init__(self) -> None:
        self._takes: dict[tuple[str, ...], float | None] = {}
        self._locks: defaultdict[tuple[str, ...], threading.Lock] = defaultdict(threading.Lock)

    def takes(self, tests: tuple[str, ...], measure: Callable[[], float]) -> float:
        """What ``measure`` finds.

        Raises:
            RuntimeError: as ``measure`` does; whoever asks afterwards is told only that.
        """
        with self._locks[tests]:
            if tests not in self._takes:
                self._takes[tests] = None
                self._takes[tests] = measure()
            if (takes := self._takes[tests]) is None:
                raise RuntimeError(f"{' '.join(tests)} failed before")
            return takes


class Bench:
    """One copy of the tree; not for two threads."""

    def __init__(self, folder: Path, unchanged: Unchanged) -> None:
        self._root = folder
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True)
        self._unchanged = unchanged

    def notices(self, case: Case) -> bool:
        """Whether a test fails, or waits in vain, because of the mutant.

        Raises:
            RuntimeError: the tests fail without any mutant, with the end of what they printed.
        """
        within_s = self._unchanged.takes(case.tests, partial(self._measure, case.tests)) * _TIMES + _MORE_S
        while True:
            failed, took_s = self._with(case, within_s)
            # What waits in vain is a defect, unless the machine has so much else to do that nothing ends in time.
            if not failed or took_s < within_s:
                return failed
            if not self._run(case.tests, within_s)[0]:
                # They end in time without it, perhaps only just: with twice as much, it is the mutant.
                return self._with(case, 2 * within_s)[0]
            if within_s > _BEFORE_MUTANTS_S:
                raise RuntimeError(f"without any mutant, {' '.join(case.tests)} do not pass within {within_s:.0f} s")
            within_s *= 2

    def _with(self, case: Case, within_s: float) -> tuple[bool, float]:
        """Whether the tests fail with the mutant, and after how many seconds."""
        path = self._root / case.file
        source = path.read_bytes()
        path.write_bytes(case.mutation.applied(source))
        # Python tells compiled files apart by size and whole seconds, which a mutant may share with its file.
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()
        began = time.monotonic()
        try:
            return self._run(case.tests, within_s, PYTHONDONTWRITEBYTECODE="1")[0], time.monotonic() - began
        finally:
            path.write_bytes(source)

    def _measure(self, tests: tuple[str, ...]) -> float:
        began = time.monotonic()
        failed, said = self._run(tests, _BEFORE_MUTANTS_S)
        if failed:
            raise RuntimeError(f"without any mutant, {' '.join(tests)} fail:\n{said[-3000:]}")
        return time.monotonic() - began

    def _run(self, tests: tuple[str, ...], within_s: float, **environment: str) -> tuple[bool, str]:
        command = [sys.executable, "-m", "pytest", *_PYTEST, f"--timeout={within_s:.0f}", *tests]
        with subprocess.Popen(
            command,
            cwd=self._root,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                # A test that waits too long fails by itself and ends what it started; this is for one that cannot.
                said, _ = process.communicate(timeout=within_s + _MORE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                said, _ = process.communicate()
        return process.returncode != 0, said
