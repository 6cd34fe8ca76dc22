"""What must outlive the device's database: one small file beside it, replaced whole and synced.

A database is lost to a bad sector, to a person, or to a disk that lied. What serves must go on serving then, and what
may never go back (counters, trust, failed contents) must not begin at zero. All else comes again from the server.
"""

import logging
import shutil
from pathlib import Path
from typing import Final

import msgspec

from agent.identity import write_private
from agent.slots import Slot
from modules.canonical import UNREADABLE
from modules.protocol.report import Reason

_NAME: Final = "agent.kept.json"
_ASIDE: Final = 3
_log = logging.getLogger(__name__)


class Mark(msgspec.Struct, frozen=True):
    """The highest version seen of a trust role, and its keys (modules.trust)."""

    version: int
    keyids: tuple[str, ...]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file."""

    slots: tuple[Slot, ...] = ()
    numbers: dict[str, float] = {}
    failed: dict[str, tuple[Reason, float]] = {}
    roles: dict[str, Mark] = {}


class Backup:
    """The file; written only where its content has changed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._last: bytes | None = None

    def write(self, kept: Kept) -> None:
        """Replace the file. On a full or read-only disk the last one stays, which is older and better than none."""
        data = msgspec.json.encode(kept, order="deterministic")
        if data == self._last:
            return
        try:
            write_private(self._path, data)
        except OSError:
            return
        self._last = data

    def read(self) -> Kept | None:
        """The content; None where there is no file, or a damaged one."""
        self._last = None
        try:
            data = self._path.read_bytes()
            kept = msgspec.json.decode(data, type=Kept)
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            _log.error("%s cannot be read, and is made anew: %s", self._path, error)
            return None
        self._last = data
        return kept


def set_aside(path: Path) -> Path:
    """Move a damaged database out of the way, for whoever wants to look at it; the oldest of a few is overwritten."""
    names = [path.with_name(f"{path.name}.damaged-{number}") for number in range(1, _ASIDE + 1)]
    free = next((name for name in names if not name.exists()), None)
    aside = free or min(names, key=lambda name: name.stat().st_mtime)
    if aside.is_dir():
        shutil.rmtree(aside)
    elif not path.is_file():
        aside.unlink(missing_ok=True)
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside
