"""The device's memory: one SQLite file, written and synced before each side effect.

Slots are rows; beside them stand the order last accepted, numbers that never go back, contents that failed here, the
trust roles' high-water marks and the reports that the server has not acknowledged yet.
"""

import logging
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from agent import schema
from agent.backup import Backup, Kept, Mark, set_aside
from agent.slots import Slot
from agent.sqlite_errors import is_damage, is_held, remedy
from modules.bounds import MAX_COUNT
from modules.canonical import UNREADABLE
from modules.errors import BadSettings, NoSpace
from modules.names import Digest
from modules.protocol.report import Reason, Refusal
from modules.trust.device import RoleMark

# The document of the newest order that was adopted.
ORDER: Final = "order"
# Why the broker does not let this device in; empty: it does, or has not been asked.
REFUSAL: Final = "refusal"
_MAX_REFUSALS: Final = 20
# They begin anew with an epoch, so they are not kept beside the database.
_OF_THE_EPOCH: Final = frozenset({"report", "acknowledged", "facts", "boot", "order", "telemetry"})
# The order that was adopted stays adopted where only the epoch is new, and not the database.
_BEGUN_ANEW: Final = _OF_THE_EPOCH - {"order"}
_EPOCH: Final = re.compile(r"[0-9a-f]{16}")
_log = logging.getLogger(__name__)


class Store:
    """Opens, or makes, the file ``agent.db`` in the state folder. Two threads use it: the event loop's, and trust's.

    ``read_only`` is for a look beside a running agent, or at what a damaged disk still has: nothing is made or changed.
    What is there and is not the agent's database, or holds a row that cannot be read, is set aside; one that is lost,
    empty or was set aside is made anew from what is kept beside it (agent/backup.py). On a disk that cannot be written
    a copy in memory takes its place.

    Raises:
        BadSettings: a newer agent made the file, another program holds it, or it may not be opened; with
            ``read_only``, also where none is there, or a damaged one.
        NoSpace: a write found the disk full; nothing of it was kept.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self._path = folder / "agent.db"
        self._backup = Backup(folder)
        self._lock = threading.RLock()
        self._noting = False
        if read_only:
            self._db = _look_at(self._path)
            return
        kept, found = self._backup.read(), self._path.exists()
        try:
            ours = self._open(kept)
        except (sqlite3.DatabaseError, OSError) as error:
            if not is_damage(error):
                self._without_disk(error, found=found)
                return
            aside = self._aside(error)
            _log.error("the database was damaged (%s): it is %s now, and is made anew", error, aside.name)
            ours = self._open(None)
        if not ours and kept is not None:
            self._restore(kept)
        self._noting = True
        self._note()

    def _aside(self, why: Exception) -> Path:
        try:
            return set_aside(self._path)
        except OSError as error:
            raise BadSettings(
                f"the agent's database is damaged ({why}), and cannot be moved out of the way: {error.strerror}",
                element=str(self._path),
                remedy="give the agent a disk to write to",
            ) from error

    def _without_disk(self, error: Exception, *, found: bool) -> None:
        """The database cannot be opened for writing, and not because of what is in it."""
        if not found:
            raise NoSpace(str(error), element=str(self._path), remedy="give the agent a disk to write to") from error
        if is_held(error):
            raise BadSettings(
                "another program holds the agent's database", element=str(self._path), remedy="end that program"
            ) from error
        self._db = self._in_memory(error)

    def _in_memory(self, why: Exception) -> sqlite3.Connection:
        """A copy of a database that cannot be written: what runs is looked after, though nothing is remembered."""
        _log.error("%s cannot be written (%s): what runs goes on, and nothing new is remembered", self._path, why)
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            on_disk = _look_at(self._path, older=True)
        except BadSettings as error:
            raise BadSettings(
                f"the agent's database cannot be opened: {why}",
                element=str(self._path),
                remedy="give it back to the agent's user, or move it away: it is made anew from what is kept beside it",
            ) from error
        on_disk.backup(copy)
        on_disk.close()
        if schema.version(copy) < schema.VERSION:
            schema.bring_up_to_date(copy)
        return copy

    def _open(self, kept: Kept | None) -> bool:
        """Open the file, or make it; whether it was the agent's database before.

        Raises:
            BadSettings: a newer agent made it.
            sqlite3.DatabaseError: it cannot be opened, or is not what the agent left there.
        """
        if self._path.exists() and not self._path.is_file():
            raise sqlite3.DatabaseError("it is no file")
        self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            self._path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._version()
            if version < schema.VERSION:
                with self.together():
                    schema.bring_up_to_date(self._db)
            if self.text("epoch") == "":
                self.keep_text("epoch", secrets.token_hex(8))
            self._check(kept if version > 0 else None)
        except (*UNREADABLE, OverflowError, LookupError, TypeError, ValueError) as error:
            self._db.close()
            raise sqlite3.DatabaseError(f"a row of it cannot be read: {error}") from error
        except BaseException:
            self._db.close()
            raise
        return version > 0

    def _version(self) -> int:
        """Which version of the agent made the file; 0 where it is new, or empty."""
        version = schema.version(self._db)
        if version > schema.VERSION:
            raise BadSettings(
                "a newer agent made this database, or another program",
                element=str(self._path),
                remedy="run that agent, or move the file away: it is made anew from what is kept beside it",
            )
        if version < 0 or (version == 0 and not schema.is_empty(self._db)):
            raise sqlite3.DatabaseError("another program made it")
        return version

    def _check(self, kept: Kept | None) -> None:
        """Read all that is there once: what cannot be read now could not be read at any pass.

        And a number that is below what was kept later shows that the file is an older one: it lost its journal, or was
        copied back. What it says runs may not run any more, and its numbers would be given a second time.
        """
        damage = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok" or self._db.execute("PRAGMA foreign_key_check").fetchone():
            raise sqlite3.DatabaseError(damage if damage != "ok" else "a row names another that is not there")
        self.slots(), self.refusals(), self.marks(), self._failures(), self.text("boot")
        if not _EPOCH.fullmatch(self.epoch):
            raise ValueError(f"epoch {self.epoch[:40]!r}")
        numbers = self.numbers()
        if not all(abs(value) <= MAX_COUNT for value in numbers.values()):
            raise ValueError("a number out of bounds")
        older = [name for name, value in (kept.numbers if kept else {}).items() if numbers.get(name, 0.0) < value]
        if older:
            raise sqlite3.DatabaseError(f"it is older than what was kept beside it: {older[0]}")

    def _restore(self, kept: Kept) -> None:
        """What was kept beside the database: what serves, what may not go back, and what failed here."""
        with self.together():
            for slot in kept.slots:
                self.save(slot)
            for name, value in kept.numbers.items():
                self.raise_number(name, value)
            for digest, (reason, at) in kept.failed.items():
                self.remember_failed(Digest(digest), reason, at)
            self.keep({role: RoleMark(mark.version, mark.keyids) for role, mark in kept.roles.items()})
        _log.warning("the database was lost: rebuilt from what was kept beside it, %d slots", len(kept.slots))

    def _note(self) -> None:
        """Keep beside the database what must outlive it; written only where it has changed."""
        if not self._noting:
            return
        self._backup.write(
            Kept(
                slots=tuple(one for slot in self.slots() if (one := slot.settled)),
                numbers={name: value for name, value in self.numbers().items() if name not in _OF_THE_EPOCH},
                failed=self._failures(),
                roles={role: Mark(mark.version, mark.keyids) for role, mark in self.marks().items()},
            )
        )

    def numbers(self) -> dict[str, float]:
        """All numbers by their names."""
        return dict(self._db.execute("SELECT name, value FROM numbers").fetchall())

    def _failures(self) -> dict[str, tuple[Reason, float]]:
        rows = self._db.execute("SELECT digest, reason, at FROM failed").fetchall()
        return {digest: (msgspec.json.decode(data, type=Reason), at) for digest, data, at in rows}

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """All writes inside are one transaction: all of them, or none."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
                self._note()
            except sqlite3.OperationalError as error:
                self._roll_back()
                if is_damage(error):
                    raise
                raise NoSpace(str(error), element=str(self._path), remedy=remedy(error)) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _write(self, statement: str, *values: object) -> None:
        with self.together():
            self._db.execute(statement, values)

    # Slots

    def slots(self) -> tuple[Slot, ...]:
        return schema.slots(self._db)

    def slot(self, name: str) -> Slot | None:
        return next((slot for slot in self.slots() if slot.slot == name), None)

    def save(self, slot: Slot) -> Slot:
        with self.together():
            schema.save(self._db, slot)
        return slot

    def forget(self, name: str) -> None:
        with self.together():
            schema.forget(self._db, name)

    # Which row of numbers this is, and which boot the rows' seconds are of

    @property
    def epoch(self) -> str:
        """Made anew with each new database: numbers start again at 1, and the server must be able to tell."""
        return self.text("epoch")

    def begin_epoch(self) -> None:
        """Number what is said from 1 again; what runs, what was ordered and what may not go back stays."""
        with self.together():
            self.keep_text("epoch", secrets.token_hex(8))
            self._db.executemany("DELETE FROM numbers WHERE name = ?", [(name,) for name in _BEGUN_ANEW])

    def text(self, name: str) -> str:
        return (self.document(name) or b"").decode()

    def keep_text(self, name: str, text: str) -> None:
        self.keep_document(name, text.encode())

    # Numbers that never go back, and single documents

    def number(self, name: str) -> float:
        row = self._db.execute("SELECT value FROM numbers WHERE name = ?", (name,)).fetchone()
        return float(row[0]) if row else 0.0

    def highest(self, prefix: str) -> float:
        """The highest of all numbers whose names begin so; 0 where there is none."""
        found = "SELECT max(value) FROM numbers WHERE substr(name, 1, length(?1)) = ?1"
        return float(self._db.execute(found, (prefix,)).fetchone()[0] or 0.0)

    def raise_number(self, name: str, value: float) -> None:
        """Remember ``value`` if it is above what is remembered."""
        self._write(
            "INSERT INTO numbers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            name,
            float(value),
        )

    def keep_number(self, name: str, value: float) -> None:
        """Remember ``value``, whatever is remembered."""
        self._write("INSERT OR REPLACE INTO numbers VALUES (?, ?)", name, float(value))

    def count(self, name: str) -> int:
        """The next of a row of numbers, 1, 2, 3, ..., never given twice."""
        with self.together():
            value = int(self.number(name)) + 1
            self.raise_number(name, value)
        return value

    def document(self, name: str) -> bytes | None:
        row = self._db.execute("SELECT bytes FROM documents WHERE name = ?", (name,)).fetchone()
        return bytes(row[0]) if row else None

    def keep_document(self, name: str, data: bytes) -> None:
        self._write("INSERT OR REPLACE INTO documents VALUES (?, ?)", name, data)

    def drop_document(self, name: str) -> None:
        self._write("DELETE FROM documents WHERE name = ?", name)

    # Contents that failed on this device

    def failed(self, digest: Digest) -> Reason | None:
        row = self._db.execute("SELECT reason FROM failed WHERE digest = ?", (digest,)).fetchone()
        return msgspec.json.decode(row[0], type=Reason) if row else None

    def remember_failed(self, digest: Digest, reason: Reason, now: float) -> None:
        self._write("INSERT OR REPLACE INTO failed VALUES (?, ?, ?)", digest, msgspec.json.encode(reason), now)

    def waive(self, digest: Digest) -> None:
        self._write("DELETE FROM failed WHERE digest = ?", digest)

    # The trust roles' high-water marks (modules.trust.RoleVersions), kept and read by trust's worker thread

    def marks(self) -> dict[str, RoleMark]:
        rows = self._db.execute("SELECT role, version, keyids FROM roles").fetchall()
        return {role: RoleMark(int(version), tuple(keyids.split())) for role, version, keyids in rows}

    def keep(self, marks: Mapping[str, RoleMark]) -> None:
        with self.together():
            for role, mark in marks.items():
                values = (role, mark.version, " ".join(mark.keyids))
                self._db.execute("INSERT OR REPLACE INTO roles VALUES (?, ?, ?)", values)

    # Refused orders and commands, newest last

    def refusals(self) -> tuple[Refusal, ...]:
        rows = self._db.execute("SELECT row FROM refusals ORDER BY at").fetchall()
        return tuple(msgspec.json.decode(row[0], type=Refusal) for row in rows)

    def refuse(self, refusal: Refusal) -> None:
        """Remember a refusal, once for the same words; only the newest few are kept."""
        known = [(one.what, one.reason) for one in self.refusals()]
        if (refusal.what, refusal.reason) in known:
            return
        with self.together():
            self._db.execute("INSERT INTO refusals VALUES (?, ?)", (refusal.at, msgspec.json.encode(refusal)))
            self._db.execute(
                "DELETE FROM refusals WHERE rowid NOT IN (SELECT rowid FROM refusals ORDER BY at DESC LIMIT ?)",
                (_MAX_REFUSALS,),
            )


def _look_at(path: Path, *, older: bool = False) -> sqlite3.Connection:
    """A connection that reads; the whole file is checked first, and its version unless it may be ``older``."""
    where = f"file:{quote(str(path))}"
    try:
        try:
            connection = sqlite3.connect(f"{where}?mode=ro", uri=True)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError:
            if not path.exists():
                raise
            # On a read-only disk the files beside it cannot be made; then nobody writes, either.
            connection = sqlite3.connect(f"{where}?immutable=1", uri=True)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        connection.execute("SELECT count(*) FROM slots").fetchone()
        if found == "ok" and schema.version(connection) != schema.VERSION and not older:
            found = "another version of the agent made it"
    except sqlite3.DatabaseError as error:
        found = str(error) if path.exists() else "it is not there"
    if found != "ok":
        raise BadSettings(
            f"the agent's database cannot be used: {found}",
            element=str(path),
            remedy="start the agent, which brings it up to date, or makes it anew from what runs",
        )
    return connection
