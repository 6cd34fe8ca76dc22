"""What an earlier demo left, however it ended: its folder, its programs, its modules. Nothing of anybody else's.

A closed terminal or a SIGKILL leaves broker, server, agent and gateway running, and modules outlive them by design. So
each program is written down when it starts, with the time at which the kernel started it: a process id alone may have
become another program's.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from deploy.demo.programs import Failed

MARK: Final = ".edgefleet-demo"
_PROCESSES: Final = "processes"
_ENDS_WITHIN_S: Final = 10.0
_AFTER_NAME: Final = 22 - 3  # the start time is field 22 of proc(5)'s stat, and the name is field 2


def mark(folder: Path) -> None:
    """Say that this folder is a demo's, which the next one may empty."""
    (folder / MARK).touch()


def record(folder: Path, pid: int) -> None:
    """Write a program down that has just been started."""
    with (folder / _PROCESSES).open("a") as file:
        file.write(f"{pid} {_started(pid)}\n")


def clear(folder: Path) -> None:
    """End what an earlier demo left running, and empty its folder.

    Raises:
        Failed: there is something in the folder, and no demo has put it there.
    """
    if not any(folder.iterdir()):
        return
    if not (folder / MARK).exists():
        raise Failed(
            f"{folder} is not empty, and not a demo's: nothing in it was touched; name an empty --folder, or a new one"
        )
    for pid in _left(folder):
        _end(pid)
    _halt(folder)
    for path in folder.iterdir():
        if path.name != MARK:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _left(folder: Path) -> list[int]:
    """The written-down processes that still run, the last started first."""
    with suppress(FileNotFoundError):
        lines = [line.split() for line in (folder / _PROCESSES).read_text().splitlines()]
        return [int(pid) for pid, started in reversed(lines) if _started(int(pid)) == started]
    return []


def _started(pid: int) -> str:
    """When the kernel started the process, in clock ticks since the boot; empty where there is none."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[_AFTER_NAME]
    return ""


def _end(pid: int) -> None:
    began = _started(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        ends = time.monotonic() + _ENDS_WITHIN_S
        while _started(pid) == began and time.monotonic() < ends:
            time.sleep(0.02)
        if _started(pid) != began:
            return


def _halt(folder: Path) -> None:
    """Stop the modules of a device whose agent is gone."""
    state = folder / "device"
    if (state / "identity" / "device.json").exists():
        environment = {"EDGEFLEET_AGENT_STATE": str(state), "EDGEFLEET_AGENT_PROCESS_INTERPRETER": sys.executable}
        subprocess.run(
            [sys.executable, "-m", "agent", "halt"],
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            check=False,
            timeout=120,
        )
