"""Samples on their way to the server: a SQLite file of their own, bounded, which the device can lose.

The file is opened for each use and closed again: most of the time nobody needs it, and an idle agent holds no memory
for it. A damaged one is made anew; where nothing can be written, samples are lost and counted.
"""

import logging
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from agent.sqlite_errors import is_damage, remedy
from agent.telemetry.budget import Purse
from modules.bounds import Count
from modules.canonical import UNREADABLE
from modules.errors import NoSpace
from modules.names import SlugField
from modules.protocol.telemetry import GATEWAY, HOST, MAX_FIGURES, MAX_SAMPLES, MODULES, Figures, Name

# The most important first: what has no room goes from the end, the oldest of it first.
IMPORTANCE: Final = (MODULES, GATEWAY, HOST)
_VERSION: Final = 1
_PAGE: Final = 4096
# What a row takes beside its sample; and by how much pages that are not full make the file larger than its rows.
_ROW: Final = 96
_SLACK: Final = 1.5
_CACHE_KIB: Final = 128
_BUSY_S: Final = 0.2
_log = logging.getLogger(__name__)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Figures as they were taken: at ``at`` seconds of ``boot``, when the wall's clock said ``wall``."""

    boot: str
    at: float
    wall: float
    slot: SlugField | None = None
    figures: Figures


class Pending(NamedTuple):
    """The one message that is under way: the document as it is signed."""

    number: int
    stream: str
    document: bytes


class Waiting(NamedTuple):
    """Samples of a stream: how many bytes, and the oldest."""

    stream: str
    size: int
    oldest: Taken


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered beside the samples; ``dropped`` by stream, in this epoch of the device."""

    epoch: str = ""
    dropped: Annotated[dict[Name, Count], msgspec.Meta(max_length=MAX_FIGURES)] = {}
    purse: Purse | None = None


class Kept:
    """The file ``telemetry.db`` in the state folder; ``most_bytes`` are those of the samples in it.

    Counts are of one ``epoch`` of the device, and begin anew with the next.

    Every method raises:
        NoSpace: the disk is full, read-only, or another program holds the file; nothing has changed.
    """

    def __init__(self, folder: Path, *, epoch: str, most_bytes: int) -> None:
        self._path = folder / "telemetry.db"
        self._epoch = epoch
        self._most = most_bytes
        # Samples that could not be written, and were not counted there yet.
        self._lost: Counter[str] = Counter()

    def add(self, stream: str, samples: Sequence[Taken]) -> None:
        """Keep samples; where there is no room, the oldest of the least important stream go first."""
        rank = IMPORTANCE.index(stream)
        try:
            with self._writing() as db:
                rows = [(rank, stream, msgspec.json.encode(one)) for one in samples]
                db.executemany("INSERT INTO samples (rank, stream, sample) VALUES (?, ?, ?)", rows)
                if dropped := self._make_room(db) + self._lost:
                    state = self._state(db)
                    _keep_state(db, msgspec.structs.replace(state, dropped=dict(dropped + Counter(state.dropped))))
        except NoSpace:
            self._lost[stream] += len(samples)
            raise
        self._lost.clear()

    def pending(self) -> Pending | None:
        """The message that is under way."""
        with self._writing() as db:
            row = db.execute("SELECT number, stream, document FROM pending ORDER BY number LIMIT 1").fetchone()
        return None if row is None else Pending(*row)

    def waiting(self) -> list[Waiting]:
        """The streams that have samples, the most important first."""
        with self._writing() as db:
            rows = db.execute(
                "SELECT stream, sum(length(sample)), min(id) FROM samples GROUP BY rank, stream ORDER BY rank"
            ).fetchall()
            return [Waiting(stream, size, _read(db, "id = ?", first)[0][1]) for stream, size, first in rows]

    def send(self, stream: str, *, most_bytes: int, make: Callable[[list[Taken], int], tuple[int, bytes]]) -> None:
        """Make the oldest samples of a stream the message that is under way.

        ``make`` is given so many of them as their bytes allow, at least one, and how many were dropped; it returns the
        message's number and document.
        """
        with self._writing() as db:
            chosen: list[tuple[int, Taken]] = []
            size = 0
            for ident, sample in _read(db, f"stream = ? ORDER BY id LIMIT {MAX_SAMPLES}", stream):
                size += len(msgspec.json.encode(sample))
                if chosen and size > most_bytes:
                    break
                chosen.append((ident, sample))
            if not chosen:
                return
            number, document = make([sample for _, sample in chosen], self._state(db).dropped.get(stream, 0))
            db.execute("INSERT INTO pending VALUES (?, ?, ?)", (number, stream, document))
            db.executemany("DELETE FROM samples WHERE id = ?", [(ident,) for ident, _ in chosen])

    def renumber(self, before: int, after: Pending) -> None:
        """The message under way gets another number, and the epoch that its document names."""
        with self._writing() as db:
            db.execute("DELETE FROM pending WHERE number = ?", (before,))
            db.execute("INSERT INTO pending VALUES (?, ?, ?)", after)

    def sent(self, number: int) -> None:
        """The server has this message, and all before."""
        with self._writing() as db:
            db.execute("DELETE FROM pending WHERE number <= ?", (number,))

    def state(self) -> State:
        """What is remembered."""
        with self._writing() as db:
            return self._state(db)

    def keep_purse(self, purse: Purse) -> None:
        with self._writing() as db:
            _keep_state(db, msgspec.structs.replace(self._state(db), purse=purse))

    def _state(self, db: sqlite3.Connection) -> State:
        found = _state(db)
        return found if found.epoch == self._epoch else State(epoch=self._epoch, purse=found.purse)

    def _make_room(self, db: sqlite3.Connection) -> Counter[str]:
        """Delete what is more than may be kept; how many samples of each stream."""
        dropped: Counter[str] = Counter()
        (size,) = db.execute("SELECT coalesce(sum(length(sample) + ?), 0) FROM samples", (_ROW,)).fetchone()
        while size > self._most:
            ident, stream, length = db.execute(
                "SELECT id, stream, length(sample) FROM samples ORDER BY rank DESC, id LIMIT 1"
            ).fetchone()
            db.execute("DELETE FROM samples WHERE id = ?", (ident,))
            dropped[stream] += 1
            size -= length + _ROW
        return dropped

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; a file that cannot be read is thrown away first: it holds nothing that must last."""
        try:
            db = self._opened()
        except (sqlite3.DatabaseError, OSError, *UNREADABLE) as error:
            if not _is_worthless(error):
                raise self._no_space(error) from error
            _log.error("%s was damaged, and is made anew; its samples are lost: %s", self._path, error)
            try:
                self._throw_away()
                db = self._opened()
            except (sqlite3.DatabaseError, OSError) as again:
                raise self._no_space(again) from again
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except (sqlite3.DatabaseError, *UNREADABLE) as error:
            if _is_worthless(error):
                with suppress(OSError):
                    self._throw_away()
            raise self._no_space(error) from error
        finally:
            db.close()

    def _opened(self) -> sqlite3.Connection:
        if self._path.exists() and not self._path.is_file():
            raise sqlite3.DatabaseError("it is no file")
        db = sqlite3.connect(self._path, isolation_level=None, timeout=_BUSY_S)
        try:
            with suppress(OSError):  # another user's; whether we may write there shows below
                self._path.chmod(0o600)
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA auto_vacuum = FULL")  # of a new file: what was sent gives its room back
            db.execute(f"PRAGMA max_page_count = {int(self._most * _SLACK) // _PAGE + 64}")
            _check(db)
        except BaseException:
            db.close()
            raise
        return db

    def _throw_away(self) -> None:
        if self._path.is_dir() and not self._path.is_symlink():
            shutil.rmtree(self._path)
        for name in (self._path.name, f"{self._path.name}-journal", f"{self._path.name}-wal"):
            self._path.with_name(name).unlink(missing_ok=True)

    def _no_space(self, error: Exception) -> NoSpace:
        return NoSpace(f"no telemetry can be kept: {error}", element=str(self._path), remedy=remedy(error))


def _is_worthless(error: Exception) -> bool:
    """Whether what is in the file is to blame, and not the disk or its rights."""
    return isinstance(error, UNREADABLE) or is_damage(error)


def _check(db: sqlite3.Connection) -> None:
    """Make the tables where there are none.

    Raises:
        sqlite3.DatabaseError: another agent's, or another program's.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0:
        _make(db)
    elif version != _VERSION:
        raise sqlite3.DatabaseError(f"another agent made it: version {version}")
    _state(db)


def _make(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute(
        "CREATE TABLE samples (id INTEGER PRIMARY KEY, rank INTEGER NOT NULL, stream TEXT NOT NULL,"
        " sample BLOB NOT NULL) STRICT"
    )
    db.execute("CREATE INDEX by_rank ON samples (rank, id)")
    db.execute("CREATE TABLE pending (number INTEGER PRIMARY KEY, stream TEXT NOT NULL, document BLOB NOT NULL) STRICT")
    db.execute("CREATE TABLE state (state BLOB NOT NULL) STRICT")
    db.execute("INSERT INTO state VALUES (?)", (msgspec.json.encode(State()),))
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("COMMIT")


def _state(db: sqlite3.Connection) -> State:
    row = db.execute("SELECT state FROM state").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("a row is missing")
    return msgspec.json.decode(row[0], type=State)


def _keep_state(db: sqlite3.Connection, state: State) -> None:
    db.execute("UPDATE state SET state = ?", (msgspec.json.encode(state),))


def _read(db: sqlite3.Connection, where: str, *values: object) -> list[tuple[int, Taken]]:
    rows = db.execute(f"SELECT id, sample FROM samples WHERE {where}", values)  # noqa: S608 - our own words
    return [(ident, msgspec.json.decode(data, type=Taken)) for ident, data in rows]
