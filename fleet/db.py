"""The database: transactions that see one state, and migrations to the newest tables.

SQLite in WAL mode with full syncs: a commit that returned survives a power cut, which is what an acknowledgement to a
device promises. Writers take the lock at the beginning of a transaction, so that none fails half way.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

# Below this a transaction may fail at any moment.
LEAST_FREE: Final = 4 << 20
MIGRATIONS: Final = Path(__file__).parent / "migrations"


class Database:
    """One engine; ``read`` and ``write`` are transactions, usable from any thread."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = create_engine(url)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @classmethod
    def at(cls, path: Path) -> "Database":
        return cls(f"sqlite:///{path}")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Commit at the end, roll back on any error."""
        with self.engine.connect().execution_options(write=True) as connection, connection.begin():
            yield connection

    def try_writing(self) -> None:
        """Take the writers' lock and give it back.

        Raises:
            OperationalError: it cannot be had: another program holds it, or nothing may be written.
        """
        with self.write():
            pass

    def migrate(self) -> None:
        """Bring the tables to the newest revision; does nothing where they are."""
        with self.engine.connect() as connection:
            command.upgrade(configuration(connection), "head")

    def close(self) -> None:
        self.engine.dispose()


def disk_trouble(folder: Path) -> str:
    """Why nothing can be written to the data folder's disk any more, in words; empty where it can."""
    free = shutil.disk_usage(folder).free
    return "" if free >= LEAST_FREE else f"the disk of {folder} is full: free disk space on the server"


def in_words(error: SQLAlchemyError) -> str:
    """A failure of the database itself, as an operator reads it: what, and what to do."""
    said = str(getattr(error, "orig", None) or error)
    if "full" in said:
        return f"the database's disk is full ({said}): free disk space on the server"
    if "locked" in said:
        return f"the database is locked by another program ({said}): end that program"
    if "readonly" in said:
        return f"the database is read-only ({said}): give the server back its right to write"
    return f"the database fails ({said}): look at the server's disk and its log"


def configuration(connection: Connection) -> Config:
    """Alembic's configuration for one open connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and too late.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
