"""Processes that outlive whoever started them: found again by process id and start time, ended with all they started.

A process id alone proves nothing, because the kernel gives it out again; together with the boot and the clock tick of
its start it names one process for ever.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

PROC: Final = Path("/proc")
PAGE: Final = os.sysconf("SC_PAGESIZE")
TICKS: Final = os.sysconf("SC_CLK_TCK")
_DEAD: Final = frozenset("ZXx")


class Identity(msgspec.Struct, frozen=True):
    """One process of one boot; ``ticks`` is when it started, in clock ticks since the boot."""

    pid: int
    ticks: int
    boot: str


class Stat(msgspec.Struct, frozen=True):
    """What ``/proc/<pid>/stat`` says: memory in bytes, times in seconds, start in ticks."""

    pid: int
    state: str
    session: int
    cpu_s: float
    threads: int
    ticks: int
    memory: int


def boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def identity(pid: int) -> Identity | None:
    """The process that has this id now; None if none has."""
    stat = read_stat(pid)
    return None if stat is None else Identity(pid, stat.ticks, boot_id())


def read_stat(pid: int) -> Stat | None:
    """None if there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may hold anything, brackets and spaces too.
    fields = text.rpartition(")")[2].split()
    return Stat(
        pid=pid,
        state=fields[0],
        session=int(fields[3]),
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS,
        threads=int(fields[17]),
        ticks=int(fields[19]),
        memory=int(fields[21]) * PAGE,
    )


def is_alive(process: Identity) -> bool:
    """Whether this very process runs; one that has ended and waits to be reaped does not."""
    stat = read_stat(process.pid)
    return stat is not None and stat.ticks == process.ticks and stat.state not in _DEAD and process.boot == boot_id()


def session(leader: Identity) -> list[Stat]:
    """Every process of its session, the leader's own end or not.

    The kernel gives the leader's id to no other process while one of the session is there; but once all have ended it
    may, and then that other process is there.
    """
    now = read_stat(leader.pid)
    if leader.boot != boot_id() or (now is not None and now.ticks != leader.ticks):
        return []
    return [stat for stat in _all() if stat.session == leader.pid]


def find(variable: str) -> Identity | None:
    """The session leader that was started with this among its variables, as ``NAME=value``."""
    wanted = variable.encode()
    for stat in _all():
        if stat.session == stat.pid and wanted in _variables(stat.pid):
            return identity(stat.pid)
    return None


def hang_up(process: Identity) -> None:
    """Send SIGHUP to this very process, if it runs."""
    _signal(process, signal.SIGHUP)


def end(leader: Identity, *, grace_s: float, kill_s: float) -> bool:
    """Ask the leader to end, then kill what is left of its session; whether all is gone within ``kill_s`` after."""
    members = [Identity(stat.pid, stat.ticks, leader.boot) for stat in session(leader)]
    _signal(leader, signal.SIGTERM)
    wait(leader, grace_s)
    # Those that it started meanwhile, as long as it is there to be asked for them.
    members += [Identity(stat.pid, stat.ticks, leader.boot) for stat in session(leader)]
    for member in members:
        _signal(member, signal.SIGKILL)
    return all(wait(member, kill_s) for member in members)


def wait(process: Identity, timeout_s: float) -> bool:
    """Wait until a process has ended; False if it has not in time."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            if is_alive(process):
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                poll.poll(timeout_s * 1000)
        finally:
            os.close(handle)
    return not is_alive(process)


def _signal(process: Identity, number: signal.Signals) -> None:
    """Signal this very process: the handle pins it, so that its id cannot become another's in between."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(process.pid)
        try:
            if is_alive(process):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _all() -> Iterator[Stat]:
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (stat := read_stat(int(entry.name))) is not None and stat.state not in _DEAD:
            yield stat


def _variables(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
