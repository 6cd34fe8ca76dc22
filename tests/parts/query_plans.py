"""How SQLite reads what is asked of it: which indexes, and whether rows beside them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, event

from fleet.db import Database


@contextmanager
def empty(folder: Path, newest: Path) -> Iterator[Database]:
    """A database of the newest tables without rows; SQLite plans by its indexes alone, unless it was made to count."""
    (folder / "fleet.sqlite").write_bytes(newest.read_bytes())
    database = Database.at(folder / "fleet.sqlite")
    yield database
    database.close()


def plans(database: Database, ask: Callable[[Connection], object]) -> list[str]:
    """The steps of every statement that is executed, in order."""
    found: list[str] = []

    def explained(
        connection: Connection, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object
    ) -> None:
        if not statement.startswith("EXPLAIN"):
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found.extend(str(row.detail) for row in rows)

    with database.read() as connection:
        event.listen(connection, "before_cursor_execute", explained)
        ask(connection)
    return found
