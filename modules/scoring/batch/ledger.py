"""What is known of each input, on disk: a journal for each worker, and the name of the run that they belong to.

A journal has a line for what happened, written before anything else is done about it. Killed at any moment, the last
line may be half there and is taken away; so an input that was answered stays answered, and one that was not is asked
again. Of two answers to one input (the disk lost its end, and the input was asked again) the first counts.
"""

import errno
import fcntl
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from modules.canonical import UNREADABLE
from modules.errors import BadSettings, Invalid, NoSpace

ANSWERED: Final = 1
ASIDE: Final = 2
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OFFSET_BITS: Final = 44
_PLAN: Final = "run.json"
# A file, because a folder cannot be locked on NFS.
_LOCK: Final = ".lock"


class InUse(Invalid):
    """Another run has the folder, on this machine or on another that shares it."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Which run the folder belongs to: digests of the module and of the list of inputs, and how many share them."""

    module: str
    inputs: str
    items: int
    parts: int = 1


def begun(folder: Path) -> bool:
    """Whether a run was begun in this folder."""
    return (folder / _PLAN).exists()


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why an input is set aside: the module refused it, failed, died or hung at it, or nobody could read it."""

    kind: Literal["refused", "failed", "poison", "unreadable"]
    reason: str
    status: int = 0


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event. ``begun`` inputs were given to the module, ``alone`` with no other anywhere; the rest is of ``item``.

    ``tried``: it failed, and the word says how. ``stopped``: the run was ended by hand, which is no input's fault.
    """

    item: int = -1
    begun: tuple[int, ...] = ()
    alone: bool = False
    answer: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    aside: Reason | None = None
    tried: Literal["", "failed", "died"] = ""
    stopped: bool = False


class Ledger:
    """The folder of one run, for this process alone.

    ``tries`` and ``deaths`` count how often each input failed and ended the module, ``ended_runs`` how often the whole
    run ended while the input was asked alone, and ``suspects`` are those that were being asked when it ended last.

    Args:
        folder: made where it is not there.
        plan: of the run.
        workers: how many journals are written.
        part: whose share of the inputs this is, from 0.

    Raises:
        Invalid: the folder belongs to another run.
        InUse: another process has it now.
        BadSettings: it cannot be locked there.
    """

    def __init__(self, folder: Path, plan: Plan, workers: int, part: int = 0) -> None:
        self._folder, self._part, self._parts = folder, part, plan.parts
        self.tries: Counter[int] = Counter()
        self.deaths: Counter[int] = Counter()
        self.ended_runs: Counter[int] = Counter()
        self.suspects: set[int] = set()
        self.status = bytearray(plan.items)
        self.counts: Counter[int] = Counter()
        self._where = array("Q", bytes(8 * plan.items))
        self._locks = [own(folder, plan)]
        self._journals: list[int] = []
        try:
            found = len(list(folder.glob("worker-*.jsonl")))
            for number in range(max(found, workers)):
                self._journals.append(self._opened(number))
        except BaseException:
            self.close()
            raise

    def begin(self, worker: int, items: Sequence[int], *, alone: bool) -> None:
        """These are given to the module now."""
        self._write(worker, _Line(begun=tuple(items), alone=alone))

    def answered(self, worker: int, item: int, record: bytes) -> None:
        """The record, JSON in one line, is what stands of this input in the output."""
        where = self._write(worker, _Line(item=item, answer=msgspec.Raw(record)))
        self._settle(item, ANSWERED, worker, where)

    def set_aside(self, worker: int, item: int, reason: Reason) -> None:
        where = self._write(worker, _Line(item=item, aside=reason))
        self._settle(item, ASIDE, worker, where)

    def tried(self, worker: int, item: int, how: Literal["failed", "died"]) -> None:
        """It failed and is to be asked again."""
        self._write(worker, _Line(item=item, tried=how))
        (self.deaths if how == "died" else self.tries)[item] += 1

    def stopped(self) -> None:
        """The run is ended by hand: what is being asked is not suspect for that."""
        for worker in range(len(self._journals)):
            self._write(worker, _Line(stopped=True))

    def sync(self) -> None:
        """What was written outlives a power cut."""
        for journal in self._journals:
            os.fsync(journal)

    def open_items(self) -> Iterator[int]:
        """The inputs of its share that are neither answered nor set aside."""
        return (item for item in range(self._part, len(self.status), self._parts) if not self.status[item])

    def answers(self) -> Iterator[tuple[int, bytes]]:
        """What was answered, by input."""
        for item, line in self._settled(ANSWERED):
            if line.answer is not msgspec.UNSET:
                yield item, bytes(line.answer)

    def aside(self) -> Iterator[tuple[int, Reason]]:
        """What is set aside, by input."""
        for item, line in self._settled(ASIDE):
            if line.aside is not None:
                yield item, line.aside

    def replace(self, name: str, document: Any) -> None:
        """A small file beside the journals, replaced whole."""
        replace(self._folder / name, msgspec.json.encode(document) + b"\n")

    def close(self) -> None:
        for descriptor in (*self._journals, *self._locks):
            os.close(descriptor)
        self._journals.clear()
        self._locks.clear()

    def _path(self, worker: int) -> Path:
        return self._folder / f"worker-{worker}.jsonl"

    def _opened(self, worker: int) -> int:
        """A journal, read up to its last whole line and cut there."""
        offset = 0
        asked: dict[int, bool] = {}
        path = self._path(worker)
        path.touch()
        with path.open("rb") as file:
            for text in file:
                try:
                    line = msgspec.json.decode(text, type=_Line)
                except UNREADABLE:
                    break
                if not text.endswith(b"\n") or not self._take(worker, offset, line, asked):
                    break
                offset += len(text)
        self._interrupted(asked)
        os.truncate(path, offset)
        return os.open(path, os.O_WRONLY | os.O_APPEND)

    def _take(self, worker: int, offset: int, line: _Line, asked: dict[int, bool]) -> bool:
        """Learn what a line says; False where it cannot be of this run."""
        if any(not 0 <= item < len(self.status) for item in (*line.begun, max(0, line.item))):
            return False
        if line.begun:
            # A worker begins when it is through with what it had: what is left of that was interrupted.
            self._interrupted(asked)
            asked.update(dict.fromkeys(line.begun, line.alone))
        if line.stopped:
            asked.clear()
        if line.item < 0:
            return True
        asked.pop(line.item, None)
        if line.answer is not msgspec.UNSET:
            self._settle(line.item, ANSWERED, worker, offset)
        elif line.aside is not None:
            self._settle(line.item, ASIDE, worker, offset)
        elif line.tried:
            (self.deaths if line.tried == "died" else self.tries)[line.item] += 1
        return True

    def _interrupted(self, asked: dict[int, bool]) -> None:
        self.suspects |= asked.keys()
        for item, alone in asked.items():
            self.ended_runs[item] += alone
        asked.clear()

    def _settle(self, item: int, status: int, worker: int, offset: int) -> None:
        if not self.status[item]:
            self.status[item] = status
            self.counts[status] += 1
            self._where[item] = worker << _OFFSET_BITS | offset

    def _settled(self, status: int) -> Iterator[tuple[int, _Line]]:
        files = [self._path(worker).open("rb") for worker in range(len(self._journals))]
        try:
            for item, found in enumerate(self.status):
                if found == status:
                    file = files[self._where[item] >> _OFFSET_BITS]
                    file.seek(self._where[item] & (1 << _OFFSET_BITS) - 1)
                    yield item, msgspec.json.decode(file.readline(), type=_Line)
        finally:
            for file in files:
                file.close()

    def _write(self, worker: int, line: _Line) -> int:
        """Write a line whole, or nothing of it; returns where it begins.

        Raises:
            NoSpace: the disk takes no more.
        """
        journal = self._journals[worker]
        data = msgspec.json.encode(line) + b"\n"
        offset = os.lseek(journal, 0, os.SEEK_END)
        written = 0
        try:
            while written < len(data):
                written += os.write(journal, data[written:])
        except OSError as error:
            os.ftruncate(journal, offset)
            if error.errno in _FULL:
                raise full(error, self._folder) from error
            raise
        return offset


def own(folder: Path, plan: Plan) -> int:
    """The lock of a folder, which is made where it is not there, and belongs to this run.

    Raises:
        Invalid: it belongs to another run.
        InUse: another process has it now.
        BadSettings: it cannot be locked there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(lock, folder)
        _check(folder, plan)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InUse(
            "another run uses this folder now", element=str(folder), remedy="wait for it, or name another"
        ) from error
    except OSError as error:
        raise BadSettings(
            f"its file system keeps no two runs apart: {error.strerror}",
            element=str(folder),
            remedy="name a folder of a file system with locks, such as a local one or NFS 4",
        ) from error


def _check(folder: Path, plan: Plan) -> None:
    file = folder / _PLAN
    if not file.exists():
        replace(file, msgspec.json.encode(plan) + b"\n")
        return
    try:
        before = msgspec.json.decode(file.read_bytes(), type=Plan)
    except UNREADABLE as error:
        raise Invalid(f"it cannot be read: {error}", element=str(file), remedy="name another folder") from error
    for part, what in (("module", "another module"), ("inputs", "other inputs"), ("parts", "another number of parts")):
        if getattr(before, part) != getattr(plan, part):
            raise Invalid(
                f"the run that was begun here has {what}",
                element=str(folder),
                remedy="name another folder for this one, or give it what it began with",
            )


def full(error: OSError, place: Path) -> NoSpace:
    return NoSpace(
        f"no room is left: {error.strerror}",
        element=str(place),
        remedy="make room and run it again: what was answered is kept, and it goes on there",
    )


def replace(path: Path, data: bytes) -> None:
    """A file with this content, or as it was before.

    Raises:
        NoSpace: the disk takes no more.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno in _FULL:
            raise full(error, path.parent) from error
        raise
