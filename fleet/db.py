"""The database: transactions that see one state, and migrations to the newest tables.

SQLite in WAL mode with full syncs, or PostgreSQL (fleet/postgres.py): a commit that returned survives a power cut, as
an acknowledgement to a device promises. Writers take the one lock at the beginning of a transaction, so that none fails
half way.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import SQLAlchemyError

from fleet import postgres
from fleet.tables import tokens
from fleet.turns import Turns
from modules.errors import BadSettings

# Below this a transaction may fail at any moment.
LEAST_FREE: Final = 4 << 20
# How long a server waits while another one brings the tables to the newest revision.
MIGRATION_S: Final = 600
MIGRATIONS: Final = Path(__file__).parent / "migrations"


class Database:
    """One engine; ``read`` and ``write`` are transactions, usable from any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._turns = Turns()

    @classmethod
    def at(cls, path: Path) -> "Database":
        """SQLite's, in one file."""
        engine = create_engine(f"sqlite:///{path}")
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return cls(engine)

    @classmethod
    def of(cls, url: str, path: Path) -> "Database":
        """The one that a server's settings name: by its address, or without one SQLite's at ``path``.

        Raises:
            BadSettings: it is no address of PostgreSQL, or its driver is missing.
        """
        if not url:
            return cls.at(path)
        if not postgres.is_postgres(url):
            raise BadSettings(
                "only PostgreSQL's databases are named by their address",
                element="database",
                remedy="give postgresql://USER:PASSWORD@HOST/NAME, or nothing for SQLite in the data folder",
            )
        return cls(postgres.engine(url))

    @property
    def shared(self) -> bool:
        """Whether servers on several machines may work with it at once."""
        return self.engine.dialect.name == "postgresql"

    @property
    def made(self) -> bool:
        """Whether a fleet has been made in it."""
        with self.read() as connection:
            return inspect(connection).has_table(tokens.name)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Commit at the end, roll back on any error. This process's writers come in turn (fleet/turns.py)."""
        with (
            self._turns.mine(),
            self.engine.connect().execution_options(write=True) as connection,
            connection.begin(),
        ):
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
        options = {"write": True, "patience_s": MIGRATION_S}  # of two servers one does it, and the other waits
        with self.engine.connect().execution_options(**options) as connection:
            command.upgrade(configuration(connection), "head")

    def close(self) -> None:
        self.engine.dispose()


def disk_trouble(folder: Path) -> str:
    """Why nothing can be written to the data folder's disk any more, in words; empty where it can."""
    free = shutil.disk_usage(folder).free
    return "" if free >= LEAST_FREE else f"the disk of {folder} is full: free disk space on the server"


def in_words(error: SQLAlchemyError) -> str:
    """A failure of the database itself, as an operator reads it: what, and what to do."""
    cause = getattr(error, "orig", None) or error
    if type(cause).__module__.partition(".")[0] == "psycopg":
        return postgres.in_words(cause)
    said = str(cause)
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
