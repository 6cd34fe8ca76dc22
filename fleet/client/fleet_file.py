"""The fleet as a SQLite file: tables as the server describes them, with keys, indexes and views; whole or not there."""

import contextlib
import os
import re
import sqlite3
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fleet.client.answers import Export, ExportTable
from fleet.client.api import Fleet
from fleet.client.fleet_views import VIEWS
from fleet.client.screen import Counted, Step
from modules import __version__
from modules.errors import BadSettings, Invalid

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LEFT_OVER: Final = ("", "-journal", "-wal", "-shm")


def write(fleet: Fleet, file: Path, step: Step, *, replace: bool, without: Collection[str] = ()) -> dict[str, int]:
    """Write all that the server gives out; returns how many rows each table got.

    The tables in ``without`` stay empty.

    Raises:
        BadSettings: the file is there already, cannot be written, or sqlite-utils is not installed.
        Invalid: the server's tables are none, or have none of these.
    """
    utils = _sqlite_utils()
    if not replace and file.exists():
        raise _there(file)
    described = fleet.export()
    _check(described)
    if strange := set(without) - {table.name for table in described.tables}:
        known = ", ".join(sorted(table.name for table in described.tables))
        raise Invalid(f"there is no table {min(strange)[:60]}", element="--without", remedy=f"there are {known}")
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with contextlib.closing(sqlite3.connect(beside)) as connection:
            # Until it is whole nobody reads it: what would protect it from a crash only costs time.
            connection.execute("PRAGMA journal_mode=OFF")
            connection.execute("PRAGMA synchronous=OFF")
            counted = _fill(utils.Database(connection, execute_plugins=False), fleet, described, step, without)
        _publish(beside, file, replace=replace)
    except sqlite3.Error as error:
        raise BadSettings(f"the file cannot be written: {error}", element=str(file)) from error
    finally:
        for end in _LEFT_OVER:
            beside.with_name(beside.name + end).unlink(missing_ok=True)
    return counted


def _fill(database: Any, fleet: Fleet, described: Export, step: Step, without: Collection[str]) -> dict[str, int]:
    counted = {}
    for table in sorted(described.tables, key=_refers):
        _create(database, table)
    for table in described.tables:
        label = Counted(table.name)
        counted[table.name] = done = 0
        if table.name in without:
            continue
        step(label, 0, table.rows)
        for page in fleet.exported(table.name):
            # Replaced, where a row came again because it changed between two pages.
            database[table.name].insert_all(_known(table, page), replace=True)
            done += len(page)
            step(label, done, max(done, table.rows))
        counted[table.name] = database[table.name].count
    for table in described.tables:
        for column in table.columns:
            if column.index and table.key[0] != column.name:
                database[table.name].create_index([column.name])
    at = datetime.fromtimestamp(described.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    row = {"at": at, "fleet": fleet.url, "server": described.server, "client": __version__}
    database["export"].insert(row)
    for view in VIEWS:
        database.create_view(view.name, view.sql)
    database.analyze()
    database.conn.commit()
    return counted


def _refers(table: ExportTable) -> bool:
    return any(one.references for one in table.columns)


def _create(database: Any, table: ExportTable) -> None:
    parents = [(one.name, one.references, "id") for one in table.columns if one.references]
    columns = {one.name: one.type for one in table.columns}
    key = table.key[0] if len(table.key) == 1 else table.key
    database[table.name].create(columns, pk=key, foreign_keys=parents)


def _known(table: ExportTable, page: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows with exactly the columns that were announced."""
    for row in page:
        yield {one.name: row.get(one.name) for one in table.columns}


def _check(described: Export) -> None:
    parents = {table.name for table in described.tables if not _refers(table) and table.key == ("id",)}
    for table in described.tables:
        columns = {one.name for one in table.columns}
        words = [table.name, *columns]
        strange = [one for one in words if not _NAME.fullmatch(one)]
        missing = [one.references for one in table.columns if one.references and one.references not in parents]
        if strange or missing or not table.key or not set(table.key) <= columns:
            raise Invalid(
                f"the server describes a table that is none: {table.name[:60]!r}",
                element="export",
                remedy="see that the address is a fleet server's and that its version matches this client's",
            )


def _publish(beside: Path, file: Path, *, replace: bool) -> None:
    """Under its name the file is whole from the first moment on."""
    with beside.open("rb") as written:
        os.fsync(written.fileno())
    if replace:
        beside.replace(file)
        return
    try:
        os.link(beside, file)
    except FileExistsError as error:
        raise _there(file) from error
    except OSError:  # a disk without hard links
        if file.exists():
            raise _there(file) from None
        beside.replace(file)


def _there(file: Path) -> BadSettings:
    return BadSettings("it is there already", element=str(file), remedy="name another file, or add --replace")


def _sqlite_utils() -> Any:
    try:
        import sqlite_utils  # noqa: PLC0415 - an extra of its own, and a fifth of a second
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"the package {error.name} is not installed",
            element="export",
            remedy="pip install 'edgefleet[client,export]'",
        ) from error
    return sqlite_utils
