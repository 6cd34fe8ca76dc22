"""What is known of each input, in a folder that outlives a crash: how often it was begun, and whether it is settled."""

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from modules.canonical import UNREADABLE


class Receipt(msgspec.Struct, kw_only=True):
    """Of one input in one version; ``tries`` were begun and are not known to have ended."""

    name: str
    version: str = ""
    tries: int = 0
    settled: bool = False


class Receipts:
    """One small file for each; one that was damaged is as good as none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.partial"):
            leftover.unlink()

    def of(self, name: str, version: str) -> Receipt:
        """What is known; nothing where the input has changed since."""
        try:
            found = msgspec.json.decode(self._file(name).read_bytes(), type=Receipt)
        except (OSError, *UNREADABLE):
            found = None
        known = Receipt(name=_told(name), version=version)
        return found if found and (found.name, found.version) == (known.name, version) else known

    def begin(self, name: str, version: str) -> int:
        """Count a try before it begins; returns which it is."""
        known = self.of(name, version)
        known.tries += 1
        self._keep(name, known)
        return known.tries

    def take_back(self, name: str, version: str) -> None:
        """That try says nothing of the input."""
        known = self.of(name, version)
        known.tries = max(0, known.tries - 1)
        self._keep(name, known)

    def settle(self, name: str, version: str) -> None:
        self._keep(name, Receipt(name=_told(name), version=version, settled=True))

    def forget(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def forget_others(self, names: set[str]) -> None:
        """Forget all inputs but these."""
        kept = {self._file(name) for name in names}
        for file in self._folder.glob("*.json"):
            if file not in kept:
                file.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()}.json"

    def _keep(self, name: str, receipt: Receipt) -> None:
        write_whole(self._file(name), msgspec.json.encode(receipt))


def _told(name: str) -> str:
    """A file's name may be any bytes, and JSON is UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def write_whole(file: Path, data: bytes, *, partial: Path | None = None) -> None:
    """Write a file that others see whole or not at all, also after a power cut.

    Raises:
        OSError: it cannot be written; what was there is there still.
    """
    draft = partial or file.with_name(f"{file.name}.partial")
    try:
        with draft.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    above = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(above)
    finally:
        os.close(above)
