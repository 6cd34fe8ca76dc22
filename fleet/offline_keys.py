"""Offline keys that this server could read: it refuses to start beside them, because its thief would have the fleet.

What it can see: key files by the names that ``edgefleet keys init`` gives them, and unencrypted keys that the owner's
metadata names, under whatever name; in its data folder, its working directory, its user's edgefleet folders, and the
folder that ``keys init`` told it of, where that ran on this machine; and the passphrase's own variable. What it cannot
see: keys elsewhere on its disk, on machines it can log in to, or in somebody's pocket.
"""

import logging
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select
from tuf.api.metadata import Metadata, Root, Targets

from fleet.db import Database
from fleet.folder import Folder
from fleet.tables import tuf_metadata
from modules.errors import BadSettings
from modules.signing import signer_from_pem
from modules.trust import roles

log = logging.getLogger(__name__)

DEMO: Final = "insecure demo keys: this server may read the offline keys, so whoever has it has the fleet"
VARIABLE: Final = "EDGEFLEET_PASSPHRASE"
_NAMES: Final = re.compile(r"(root-[0-9]+|targets|team-[a-z0-9-]+)\.pem")
_LARGEST: Final = 16 * 1024
_DEEP: Final = 3
_MOST_FILES: Final = 20_000
_PRIVATE: Final = b"PRIVATE KEY-----"


def refuse(folder: Folder, database: Database, *, demo: bool) -> None:
    """Go on if there are none, or if this is a demonstration, which is said.

    Raises:
        BadSettings: there are; names the first.
    """
    with database.read() as connection:
        found = readable(folder, connection)
    if demo:
        log.warning("%s%s", DEMO, f" ({found[0]})" if found else "")
    if found and not demo:
        first, *more = found
        raise BadSettings(
            f"this server can read offline keys{f' (and {len(more)} more)' if more else ''}",
            element=first,
            remedy="move them to where no server and no network can read them; for a demonstration only, start with: "
            "--insecure-demo-keys",
        )


def readable(folder: Folder, connection: Connection) -> list[str]:
    """What this process can read of the offline keys: paths, and the variable of their passphrase."""
    named = _named(connection)
    found = [f"environment variable {VARIABLE}"] if os.environ.get(VARIABLE) else []
    paths: dict[str, None] = {}
    for place, deep in _places(folder):
        for path in _files(place, deep, skipped=folder.blobs):
            if _is_offline(path, named):
                paths.setdefault(str(path.resolve()))
    return [*found, *paths]


def _places(folder: Folder) -> Iterable[tuple[Path, int]]:
    yield folder.root, _DEEP
    yield Path.cwd(), 2
    home = Path.home()
    yield from ((home / name, _DEEP) for name in (".config/edgefleet", ".edgefleet", "edgefleet-keys"))
    if told := os.environ.get("EDGEFLEET_HOME"):
        yield Path(told).expanduser(), _DEEP
    if folder.offline_keys_at.exists():
        yield Path(folder.offline_keys_at.read_text(encoding="utf-8").strip()), _DEEP


def _files(place: Path, deep: int, *, skipped: Path) -> Iterator[Path]:
    """Plain files of a key's size, a few folders deep; no links are followed, and what cannot be read is no danger."""
    waiting, seen = [(place, deep)], 0
    while waiting:
        folder, left = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if seen > _MOST_FILES:
                return
            if entry.is_dir(follow_symlinks=False):
                if left > 1 and Path(entry.path) != skipped:
                    waiting.append((Path(entry.path), left - 1))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _is_offline(path: Path, named: Collection[str]) -> bool:
    known = _NAMES.fullmatch(path.name) is not None
    if not known and path.suffix not in {".pem", ".key"}:
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = os.read(file, _LARGEST) if stat.S_ISREG(os.fstat(file).st_mode) else b""
        finally:
            os.close(file)
    except OSError:
        return False
    if _PRIVATE not in data:
        return False
    return known or _public_id(data) in named


def _public_id(data: bytes) -> str | None:
    """The id of an unencrypted key's public half; None for encrypted ones, and for kinds that sign no metadata."""
    try:
        return signer_from_pem(data).public_key.keyid
    except BadSettings:
        return None


def _named(connection: Connection) -> frozenset[str]:
    """The ids of all offline keys that the newest metadata names; of the online ones none."""
    newest = select(tuf_metadata.c.data).order_by(tuf_metadata.c.version.desc()).limit(1)
    found: set[str] = set()
    if root := connection.execute(newest.where(tuf_metadata.c.role == roles.ROOT)).scalar_one_or_none():
        held = Metadata[Root].from_bytes(root).signed.roles
        found |= {keyid for role in (roles.ROOT, roles.TARGETS) for keyid in held[role].keyids}
    if targets := connection.execute(newest.where(tuf_metadata.c.role == roles.TARGETS)).scalar_one_or_none():
        delegations = Metadata[Targets].from_bytes(targets).signed.delegations
        found |= set(delegations.keys) if delegations else set()
    return frozenset(found)
