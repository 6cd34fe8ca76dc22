"""A watched folder: each whole file that fits the pattern is scored once, and its answer appears whole."""

import logging
import os
import stat
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from modules.canonical import UNREADABLE
from modules.triggers.inputs import Inputs, Poison
from modules.triggers.paths import Paths
from modules.triggers.receipts import write_whole

POISON: Final = "poison"
RECEIPTS: Final = ".edgefleet"
LOOK_S: Final = 0.25
# As much as the scoring server takes.
LARGEST: Final = 100 << 20
# A .json file that is none may still be on its way, however slowly.
_HALF_WRITTEN_S: Final = 30.0
_PAUSE_S: Final = 5.0
_log = logging.getLogger("modules.triggers")


class Seen(NamedTuple):
    """A file as it was, and since when by the clock that never goes back."""

    version: str
    since: float


class Folder:
    """One round of looking after another. Links, folders and names that begin with a dot are no inputs."""

    def __init__(self, root: Path, paths: Paths, inputs: Inputs, *, settle_s: float) -> None:
        self._root, self._paths, self._inputs, self._settle_s = root, paths, inputs, settle_s
        self._seen: dict[str, Seen] = {}
        self._half: dict[str, str] = {}
        self._settled: dict[str, str] = {}
        self._later: dict[str, float] = {}
        self._forgot = False
        (root / paths.folder).mkdir(parents=True, exist_ok=True)

    def look(self) -> int:
        """Score what is whole and new; returns how many that were.

        Raises:
            Stopping, NotReady: as :meth:`Inputs.answer`.
        """
        done = 0
        found = self._found()
        self._seen = {name: one for name, one in self._seen.items() if name in found}
        for name, version in sorted(found.items()):
            if self._settled.get(name) == version:
                continue
            now = time.monotonic()
            seen = self._seen.get(name)
            if seen is None or seen.version != version:
                self._seen[name] = seen = Seen(version, now)
            if now - seen.since < self._settle_s or now < self._later.get(name, 0):
                continue
            if self._inputs.receipts.of(name, version).settled:
                self._settled[name] = version
                continue
            try:
                done += self._take(name, version, waited=now - seen.since)
            except OSError as error:
                # A full disk, or a share that is away: nothing is wrong with the input.
                _log.error("%r waits: %s", name, error)
                self._later[name] = now + _PAUSE_S
        self._forget_gone(found)
        return done

    def _forget_gone(self, found: dict[str, str]) -> None:
        """Keep nothing of inputs that somebody has taken away, nor of those that went while nobody looked."""
        if not self._forgot or self._settled.keys() - found.keys():
            self._inputs.receipts.forget_others(set(found))
            self._forgot = True
        for name in (self._settled.keys() | self._half.keys() | self._later.keys()) - found.keys():
            for known in (self._settled, self._half, self._later):
                known.pop(name, None)

    def _found(self) -> dict[str, str]:
        found = {}
        with os.scandir(self._root / self._paths.folder) as entries:
            for entry in entries:
                if self._paths.output_of(entry.name) is None:
                    continue
                try:
                    known = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(known.st_mode):
                    found[entry.name] = _version(known)
        return found

    def _take(self, name: str, version: str, *, waited: float) -> int:
        file = self._root / self._paths.folder / name
        try:
            body = _read(file, version)
            if body is None:
                return 0
            if self._paths.suffix == ".json" and not _is_json(body) and waited < max(_HALF_WRITTEN_S, self._settle_s):
                if self._half.get(name) != version:
                    self._half[name] = version
                    _log.info("%r is not whole yet, or no JSON: it is looked at again", name)
                return 0
            content_type = "application/json" if self._paths.suffix == ".json" else "application/octet-stream"
            answer = self._inputs.answer(name, version, body, content_type)
        except Poison as why:
            self._half.pop(name, None)
            if self._set_aside(file, str(why)):
                # Whoever moves it back wants it tried again.
                self._inputs.receipts.forget(name)
                return 1
        else:
            self._half.pop(name, None)
            self._write(str(self._paths.output_of(name)), answer)
            _log.info("%r is answered", name)
        self._inputs.receipts.settle(name, version)
        self._settled[name] = version
        return 1

    def _write(self, place: str, answer: bytes) -> None:
        """Write the answer, as often as it takes: it was asked for, and the disk may have room again."""
        output = self._root / place
        while True:
            try:
                output.parent.mkdir(parents=True, exist_ok=True)
                # A reader of the folder passes over names with a dot, and so do we.
                write_whole(output, answer, partial=output.with_name(f".{output.name[:200]}.partial"))
            except OSError as error:
                _log.error("%s cannot be written: %s", output, error.strerror)
                self._inputs.wait(_PAUSE_S)
            else:
                return

    def _set_aside(self, file: Path, why: str) -> bool:
        """Move the input out of the way, its reason beside it; returns whether it could be moved."""
        _log.error("%r is set aside: %s", file.name, why)
        place = self._root / POISON / self._paths.folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{file.name}.why.txt").write_text(f"{why}\n", encoding="utf-8")
        try:
            file.replace(place / file.name)
        except OSError as error:
            _log.warning("%r stays where it is: %s", file.name, error.strerror)
            return False
        return True


def _version(known: os.stat_result) -> str:
    return f"{known.st_ino}-{known.st_size}-{known.st_mtime_ns}"


def _read(file: Path, version: str) -> bytes | None:
    """The file's content; None where it is another one by now.

    Raises:
        Poison: it is larger than any request may be.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        known = os.fstat(descriptor)
        if known.st_size > LARGEST:
            raise Poison(f"it has {known.st_size} bytes, and a request at most {LARGEST}")
        body = stream.read(LARGEST + 1)
        return body if _version(known) == version == _version(os.fstat(descriptor)) else None


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except UNREADABLE:
        return False
    return True
