"""The one server of a fleet that leads: it alone keeps the broker's session and moves rollouts on.

Any number of servers may answer the API on one database. Whoever holds the lock leads. On PostgreSQL that is a lock of
a session of its own, which the database takes back the moment the connection is gone; on SQLite it is a lock of the
data folder, which the system takes back however the process ends.
"""

import fcntl
import os
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Engine

from fleet import postgres
from fleet.db import Database

_TAKE: Final = "SELECT pg_try_advisory_lock(%s, %s)"
# Asked of the database, not remembered: a pooler in between may have given the session to somebody else.
_HOLDS: Final = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid::bigint = %s AND objid::bigint = %s)"
)


class Lead(Protocol):
    """A lock that one server has at a time. The methods block for a moment, and are called one after the other."""

    def take(self) -> bool:
        """Try to get it; False while another server has it."""

    def holds(self) -> bool:
        """Whether it is still ours."""

    def give_up(self) -> None:
        """Let another server have it."""


def lead(database: Database, folder: Path) -> Lead:
    return SessionLock(database.engine) if database.shared else FolderLock(folder)


class FolderLock:
    """Of the data folder; nothing takes it away from a process that lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def take(self) -> bool:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def holds(self) -> bool:
        return self._descriptor is not None

    def give_up(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class SessionLock:
    """Of a session of PostgreSQL that does nothing else; every failure of the connection ends it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Any = None

    def take(self) -> bool:
        if self._connection is None:
            pooled = self._engine.raw_connection()
            self._connection = pooled.dbapi_connection
            pooled.detach()
            self._connection.autocommit = True
        return self._asked(_TAKE)

    def holds(self) -> bool:
        return self._connection is not None and self._asked(_HOLDS)

    def give_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _asked(self, query: str) -> bool:
        asked = self._connection
        try:
            return bool(asked.execute(query, postgres.LEADER).fetchone()[0])
        except Exception:
            asked.close()
            if self._connection is asked:  # an answer that comes too late is about an older one
                self._connection = None
            raise
