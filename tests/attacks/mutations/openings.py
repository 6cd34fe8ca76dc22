"""Who opens what below the folders of foreign bytes, told by the interpreter itself, and whether it may.

``modules/``, ``blobs/`` and ``i/`` of a device's state hold bytes that came from elsewhere. *The verifier* is the list
below: the functions that open such a file in order to hold its bytes against a digest that was signed, and that hand
on nothing that does not match. Everybody else, an engine and the module itself first of all, may open a file there only
once the verifier has had it in its hands, and only while its bytes are those that its publisher signed.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

VERIFIER = {
    # Reads a whole blob and compares its sha256; what differs is removed.
    ("agent/blobs.py", "BlobStore.sound"),
    # Reads a block index and compares its sha256 with the one in the signed manifest.
    ("agent/blobs.py", "BlobStore.index"),
    # The partial file: each block is compared before it is written, and all of them when a pull goes on.
    ("agent/blobs.py", "BlobStore.open_partial"),
    # Other blobs' indexes and blocks as sources: each copied block is compared like one that came.
    ("agent/blobs.py", "BlobStore.copy_known"),
    ("agent/blobs.py", "BlobStore._copy"),
    # Reads the whole once more before the file gets its name (measure_file is how), and syncs what it read.
    ("agent/blobs.py", "BlobStore.finish"),
    ("modules/digests.py", "measure_file"),
    # A manifest is compared with its digest before it is parsed.
    ("agent/shelf.py", "Shelf.manifest"),
    # An image's blobs are compared as they pass: the archive breaks off before its end where one differs.
    ("modules/oci.py", "checked_blob"),
}
# Writes what was compared in memory the moment before; nobody else writes there.
WRITERS = {
    ("agent/identity.py", "write_private"),  # manifests
    ("agent/blobs.py", "BlobStore.keep_index"),
    ("agent/shelf.py", "_link"),  # where files cannot be linked
}
# This test's own look at a partial file, before the verifier's.
_WATCH = ("tests/attacks/mutations/device.py", "_Blobs.look")
# Opens folders, to sync them or to look what is in them; a folder has no bytes.
_FOLDERS = os.O_DIRECTORY
_HERE = str(Path(__file__).parents[3])
_OURS = tuple(f"{_HERE}/{room}/" for room in ("agent", "modules", "tests"))


class Openings:
    """``wrong`` says every opening that may not be. ``signed`` says whether bytes are what somebody signed."""

    def __init__(self, folder: str, signed: Callable[[str], bool]) -> None:
        self._below = tuple(os.path.join(folder, name) + os.sep for name in ("modules", "blobs", "i"))  # noqa: PTH118
        self._signed = signed
        # What the verifier has had in its hands: files that it opened, and names under which it wrote.
        self._held: set[tuple[int, int]] = set()
        self._written: set[str] = set()
        self._busy = False
        self.wrong: list[str] = []
        self.seen: set[tuple[str, str]] = set()

    def opened(self, path: object, flags: int) -> None:
        if self._busy or not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.fsdecode(path)
        if not name.startswith(self._below) or flags & _FOLDERS:
            return
        self._busy = True  # what is opened to look after it is nobody's opening
        try:
            self._look(name, flags)
        finally:
            self._busy = False

    def _look(self, name: str, flags: int) -> None:
        who = _caller()
        self.seen.add(who)
        if who == _WATCH or Path(name).is_dir():
            return
        try:
            found = Path(name).stat()
        except OSError:
            found = None
        inode = (found.st_dev, found.st_ino) if found else None
        if who in VERIFIER or who in WRITERS:
            if inode:
                self._held.add(inode)
            if who in WRITERS:
                self._written.add(name.replace(".draft/", "/").removesuffix(".partial"))
            return
        if flags & (os.O_WRONLY | os.O_RDWR):
            self.wrong.append(f"{who} writes {name}")
            return
        if found is not None:
            self._read(who, name, inode)

    def _read(self, who: tuple[str, str], name: str, inode: tuple[int, int] | None) -> None:
        """Somebody else than the verifier opens what is there."""
        if name.endswith((".part", ".index")):
            self.wrong.append(f"{who} opens {name}, which is the verifier's alone")
        with open(name, "rb") as stream:  # noqa: PTH123
            digest = hashlib.sha256(stream.read()).hexdigest()
        if not self._signed(digest):
            self.wrong.append(f"{who} opens {name}, whose bytes nobody signed")
        elif inode not in self._held and name.replace(".draft/", "/") not in self._written:
            self.wrong.append(f"{who} opens {name} before the verifier has read it")


_now: Openings | None = None


def _heard(event: str, args) -> None:
    if _now is not None and event == "open":
        path, _, flags = args
        _now.opened(path, flags or 0)


_hooked = False


@contextmanager
def heard(openings: Openings):
    """Every opening of this process is looked at meanwhile. The hook stays for good, as hooks do, and does nothing."""
    global _now, _hooked  # noqa: PLW0603 - an audit hook is the process's
    if not _hooked:
        sys.addaudithook(_heard)
        _hooked = True
    _now = openings
    try:
        yield
    finally:
        _now = None


def _caller() -> tuple[str, str]:
    """File and name of the innermost function of this repository that opens, the recorder left out."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path != __file__ and path.startswith(_OURS):
            return path[len(_HERE) + 1 :], frame.f_code.co_qualname
        frame = frame.f_back
    return "", "nobody of ours"
