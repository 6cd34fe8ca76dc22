"""What is remembered of commands: a SQLite file of their own, bounded, written and synced before anything is done.

A command that is known is not followed again. So an id is forgotten only together with a floor: what was issued at that
second or before, and is not known, may have been followed, and is refused as stale. Floors are of each director key, as
the counters of orders are: who stole one spoils them for no longer than the owner names it. Where the file was lost or
damaged, the floor is the newest command that the agent's database remembers. No clock is asked for any of that.
"""

import logging
import shutil
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from agent.sqlite_errors import is_damage, remedy
from agent.store import Store
from modules.errors import NoSpace
from modules.protocol.commands import ENDS, Answer, Command

FILE: Final = "commands.db"
#: The document of the store that is there while a command has no last answer; a starting agent looks for it.
OPEN: Final = "commands"
#: Commands that are remembered, and refused ones beside them.
MOST: Final = 256
MOST_REFUSED: Final = 64
#: Bytes of answers that are kept of commands that have ended; each one's last answer stays in any case.
MOST_BYTES: Final = 8 << 20
_NEWEST: Final = "command "
_VERSION: Final = 1
_log = logging.getLogger(__name__)


class Known(NamedTuple):
    """A command that is remembered; ``state`` is its last answer's, empty while it has none."""

    id: str
    digest: str
    name: str
    state: str
    parts: int


class Kept:
    """The file ``commands.db`` in the state folder; opened for each use.

    Every method raises:
        NoSpace: the disk is full or read-only; nothing has changed.
    """

    def __init__(self, folder: Path, store: Store, *, most: int = MOST) -> None:
        self._path = folder / FILE
        self._store = store
        self._most = most
        self._looked_at = False

    def known(self, ident: str) -> Known | None:
        with self._writing() as db:
            row = db.execute(f"{_KNOWN} WHERE id = ?", (ident,)).fetchone()
        return Known(*row) if row else None

    def open(self) -> list[Known]:
        """Commands that have no last answer."""
        with self._writing() as db:
            return [Known(*row) for row in db.execute(f"{_KNOWN} WHERE state = '' ORDER BY number")]

    def all(self) -> list[Known]:
        """The newest last."""
        with self._writing() as db:
            return [Known(*row) for row in db.execute(f"{_KNOWN} ORDER BY number")]

    def floor(self, keys: Iterable[str]) -> int:
        """At or before which second a command of these director keys may have been forgotten; 0: none was."""
        with self._writing() as db:
            floors = dict(db.execute("SELECT key, issued FROM floors").fetchall())
        return max((floors.get(key, 0) for key in keys), default=0)

    def begin(self, command: Command, *, digest: str, keys: Collection[str]) -> None:
        """Remember a command that is about to be followed."""
        with self._writing():
            pass  # made now, if it was lost: with the floors of before this command
        with self._store.together():
            for key in keys:
                self._store.raise_number(_NEWEST + key, command.issued)
            self._store.keep_text(OPEN, command.id)
        with self._writing() as db:
            db.execute(
                "INSERT INTO commands (id, digest, name, issued, keys) VALUES (?, ?, ?, ?, ?)",
                (command.id, digest, command.name, command.issued, " ".join(sorted(keys))),
            )
            self._make_room(db)

    def refuse(self, answer: Answer, document: bytes, *, digest: str) -> None:
        """Remember a command that is never followed, and that this is the answer to it; the newest few only."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO commands (id, digest, name, issued, keys, state, parts) VALUES (?, ?, ?, 0, '', ?, ?)",
                (answer.id, digest, answer.name, answer.state, answer.part),
            )
            db.execute("INSERT INTO answers VALUES (?, ?, ?)", (answer.id, answer.part, document))
            db.execute(
                "DELETE FROM commands WHERE keys = '' AND number NOT IN"
                " (SELECT number FROM commands WHERE keys = '' ORDER BY number DESC LIMIT ?)",
                (MOST_REFUSED,),
            )
            db.execute(_FORGOTTEN)

    def say(self, answers: Iterable[tuple[Answer, bytes]]) -> None:
        """Remember the next answers to a command, and what they are as bytes."""
        with self._writing() as db:
            for answer, document in answers:
                db.execute("INSERT INTO answers VALUES (?, ?, ?)", (answer.id, answer.part, document))
                state = answer.state if answer.state in ENDS else ""
                db.execute("UPDATE commands SET state = ?, parts = ? WHERE id = ?", (state, answer.part, answer.id))
        self.settle()

    def settle(self) -> None:
        """Where every command has its last answer, a starting agent need not look for one."""
        if self._store.document(OPEN) is not None and not self.open():
            self._store.drop_document(OPEN)

    def answer(self, ident: str, part: int) -> bytes | None:
        """One answer; None where it is not kept any more."""
        with self._writing() as db:
            row = db.execute("SELECT document FROM answers WHERE id = ? AND part = ?", (ident, part)).fetchone()
        return bytes(row[0]) if row else None

    def parts(self, ident: str) -> list[int]:
        """The numbers of the answers that are kept of a command."""
        with self._writing() as db:
            return [part for (part,) in db.execute("SELECT part FROM answers WHERE id = ? ORDER BY part", (ident,))]

    def _make_room(self, db: sqlite3.Connection) -> None:
        """Forget the longest issued of those that have ended, with a floor; and results, the oldest first."""
        while db.execute("SELECT count(*) FROM commands WHERE keys != ''").fetchone()[0] > self._most:
            row = db.execute(
                "SELECT number, issued, keys FROM commands WHERE keys != '' AND state != '' ORDER BY issued LIMIT 1"
            ).fetchone()
            if row is None:
                return
            for key in row[2].split():
                _raise(db, key, row[1])
            db.execute("DELETE FROM commands WHERE number = ?", (row[0],))
        kept = 0
        for ident, parts, size in db.execute(_SIZES).fetchall():
            kept += size
            if kept > MOST_BYTES:
                db.execute("DELETE FROM answers WHERE id = ? AND part < ?", (ident, parts))
        db.execute(_FORGOTTEN)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction. A damaged file is thrown away first: the floor stands for what it knew."""
        try:
            db = self._sound()
        except (sqlite3.Error, OSError) as error:
            raise self._no_space(error) from error
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._looked_at = False
            raise self._no_space(error) from error
        finally:
            db.close()

    def _sound(self) -> sqlite3.Connection:
        try:
            return self._opened()
        except (sqlite3.DatabaseError, OSError) as error:
            if not is_damage(error):
                raise
            _log.error("%s was damaged, and is made anew; older commands are refused as stale: %s", self._path, error)
        throw_away(self._path)
        return self._opened()

    def _opened(self) -> sqlite3.Connection:
        if self._path.exists() and not self._path.is_file():
            raise sqlite3.DatabaseError("it is no file")
        db = sqlite3.connect(self._path, isolation_level=None, timeout=1.0)
        try:
            self._path.chmod(0o600)
            # What was committed must not come undone by a power cut: it would be done twice.
            db.execute("PRAGMA synchronous = EXTRA")
            db.execute("PRAGMA cache_size = -256")
            db.execute("PRAGMA auto_vacuum = FULL")
            self._check(db)
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._make(db)
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"another agent made it: version {version}")
        elif not self._looked_at and (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
        self._looked_at = True

    def _make(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            "CREATE TABLE commands (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL,"
            " digest TEXT NOT NULL, name TEXT NOT NULL, issued INTEGER NOT NULL, keys TEXT NOT NULL,"
            " state TEXT NOT NULL DEFAULT '', parts INTEGER NOT NULL DEFAULT 0) STRICT"
        )
        db.execute(
            "CREATE TABLE answers (id TEXT NOT NULL, part INTEGER NOT NULL, document BLOB NOT NULL,"
            " PRIMARY KEY (id, part)) STRICT"
        )
        db.execute("CREATE TABLE floors (key TEXT PRIMARY KEY, issued INTEGER NOT NULL) STRICT")
        for name, issued in self._store.numbers().items():
            if name.startswith(_NEWEST):
                _raise(db, name.removeprefix(_NEWEST), int(issued))
        db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")

    def _no_space(self, error: Exception) -> NoSpace:
        return NoSpace(f"no command can be followed: {error}", element=str(self._path), remedy=remedy(error))


def throw_away(path: Path) -> None:
    """Remove a database, and what SQLite keeps beside it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    for end in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _raise(db: sqlite3.Connection, key: str, issued: int) -> None:
    db.execute(
        "INSERT INTO floors VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET issued = max(issued, excluded.issued)",
        (key, issued),
    )


_KNOWN: Final = "SELECT id, digest, name, state, parts FROM commands"
_FORGOTTEN: Final = "DELETE FROM answers WHERE id NOT IN (SELECT id FROM commands)"
_SIZES: Final = (
    "SELECT commands.id, parts, sum(length(document)) FROM commands JOIN answers ON answers.id = commands.id"
    " WHERE state != '' GROUP BY commands.id ORDER BY number DESC"
)
