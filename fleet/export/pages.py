"""One page of a table after the other: each a short transaction of its own, however slowly the rows are taken.

So the pages are not of one moment. What a row refers to is given out after it (``columns.TABLES``), and a device or
rollout that was there once is there later.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, func, select, true, tuple_

from fleet.command_tables import commands
from fleet.export import columns, rows
from fleet.people import reach
from fleet.people.scope import EVERYTHING, Scope
from fleet.refusals import Missing
from fleet.tables import (
    devices,
    events,
    history,
    members,
    rollouts,
    slot_revisions,
    slots,
    telemetry,
    telemetry_history,
)
from modules.canonical import UNREADABLE
from modules.errors import Invalid

# The largest number of a row that any database of ours gives.
_LARGEST: Final = (1 << 63) - 1
_LONGEST: Final = 300
# A page ends with the row of the database that brings it to so many: of one message there may be thousands.
MOST_ROWS: Final = 10_000


class Source(NamedTuple):
    """Where an exported table comes from: the columns that are read, sorted by ``key``, and what becomes of a row."""

    wanted: tuple[Any, ...]
    key: tuple[Column[Any], ...]
    make: Callable[[Any], Iterator[rows.Out]]
    where: ColumnElement[bool] | None = None
    # Facts are large, and reports larger: fewer at a time.
    at_once: int = 1000


class Page(NamedTuple):
    """Rows of a table, and where the next page begins; None: there is no more."""

    rows: list[rows.Out]
    after: str | None


_D: Final = devices.c
# Which rows belong to a scope; an event without a device belongs to the whole fleet.
BOUNDS: Final[dict[str, Callable[[Scope], ColumnElement[bool]]]] = {
    columns.DEVICES.name: Scope.live_devices,
    columns.LABELS.name: Scope.live_devices,
    columns.REPORTS.name: Scope.live_devices,
    columns.SLOTS.name: lambda scope: scope.of_device(slots.c.device),
    columns.SLOT_REVISIONS.name: lambda scope: scope.of_device(slot_revisions.c.device),
    columns.ROLLOUTS.name: Scope.some_rollouts,
    columns.MEMBERS.name: Scope.some_members,
    columns.HISTORY.name: lambda scope: history.c.rollout.in_(select(rollouts.c.id).where(scope.some_rollouts())),
    columns.TELEMETRY.name: lambda scope: scope.of_device(telemetry.c.device),
    columns.TELEMETRY_HISTORY.name: lambda scope: scope.of_device(telemetry_history.c.device),
    columns.COMMANDS.name: lambda scope: scope.of_device(commands.c.device),
    columns.EVENTS.name: lambda scope: events.c.device.is_not(None) & scope.of_device(events.c.device),
}
SOURCES: Final = {
    columns.DEVICES.name: Source((devices,), (_D.id,), rows.device, at_once=200),
    columns.LABELS.name: Source((_D.id, _D.labels), (_D.id,), rows.labels, _D.removed.is_(None)),
    columns.REPORTS.name: Source(
        (_D.id, _D.report), (_D.id,), rows.reports, _D.report.is_not(None) & _D.removed.is_(None), at_once=50
    ),
    columns.SLOTS.name: Source((slots,), (slots.c.device, slots.c.slot), rows.slot),
    columns.SLOT_REVISIONS.name: Source(
        (slot_revisions,),
        (slot_revisions.c.device, slot_revisions.c.slot, slot_revisions.c.revision),
        rows.slot_revision,
    ),
    columns.ROLLOUTS.name: Source((rollouts,), (rollouts.c.id,), rows.rollout),
    columns.MEMBERS.name: Source((members,), (members.c.rollout, members.c.device), rows.member),
    columns.HISTORY.name: Source((history,), (history.c.id,), rows.history),
    columns.TELEMETRY.name: Source((telemetry,), (telemetry.c.device, telemetry.c.stream), rows.newest, at_once=200),
    columns.TELEMETRY_HISTORY.name: Source(
        (telemetry_history,), (telemetry_history.c.id,), rows.telemetry, at_once=200
    ),
    # Without what was signed, which is large.
    columns.COMMANDS.name: Source(
        tuple(one for one in commands.c if one.name != "envelope"), (commands.c.number,), rows.command
    ),
    columns.EVENTS.name: Source((events,), (events.c.id,), rows.event),
}


def about(connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """Every table with its columns and how many rows it has; ``labels`` and ``reports``: of how many devices.

    Of ``telemetry`` and its history: how many messages.
    """
    counts = {one.name: _counted(SOURCES[one.name], _bounds(one.name, scope)) for one in columns.TABLES}
    return [
        msgspec.to_builtins(table) | {"rows": connection.execute(counts[table.name]).scalar_one()}
        for table in columns.TABLES
    ]


def page(connection: Connection, table: str, after: str | None, scope: Scope = EVERYTHING) -> Page:
    """The rows behind ``after``, which an earlier page gave; from the beginning without it.

    Of a rollout that has devices outside the scope, words that may name them are left out.

    Raises:
        Missing: there is no such table.
        Invalid: no page gave this.
    """
    source = SOURCES.get(table)
    if source is None:
        raise Missing(f"there is no such table; there are {', '.join(sorted(SOURCES))}", element=table[:40])
    wanted = select(*source.wanted).where(_bounds(table, scope)).order_by(*source.key).limit(source.at_once)
    if source.where is not None:
        wanted = wanted.where(source.where)
    if after is not None:
        wanted = wanted.where(tuple_(*source.key) > tuple_(*_read(source, after)))
    found = connection.execute(wanted).all()
    made: list[rows.Out] = []
    withhold = _withholder(connection, table, scope)
    for number, one in enumerate(found, 1):
        made += map(withhold, source.make(one))
        if number == source.at_once or (len(made) >= MOST_ROWS and number < len(found)):
            return Page(made, msgspec.json.encode([getattr(one, column.name) for column in source.key]).decode())
    return Page(made, None)


def _read(source: Source, after: str) -> list[Any]:
    try:
        given = msgspec.json.decode(after) if len(after) <= _LONGEST else None
    except UNREADABLE:
        given = None
    kinds = [column.type.python_type for column in source.key]
    if not isinstance(given, list) or [type(one) for one in given] != kinds:
        raise Invalid("it is no page's end", element="after", remedy="take it from the header Link of a page")
    if any(isinstance(one, int) and not 0 <= one <= _LARGEST for one in given):
        raise Invalid("a number in it is out of bounds", element="after")
    return given


def _bounds(table: str, scope: Scope) -> ColumnElement[bool]:
    return true() if scope.unlimited else BOUNDS[table](scope)


def _withholder(connection: Connection, table: str, scope: Scope) -> Callable[[rows.Out], rows.Out]:
    """What leaves out the words of a row that may name devices outside the scope."""
    words = {columns.ROLLOUTS.name: ("selector", "waits_for"), columns.HISTORY.name: ("what",)}.get(table, ())
    if scope.unlimited or not words:
        return lambda row: row

    @cache
    def whole(rollout: int) -> bool:
        module = connection.execute(select(rollouts.c.module).where(rollouts.c.id == rollout)).scalar_one()
        return not reach.beyond(connection, scope, rollout, module)

    def withhold(row: rows.Out) -> rows.Out:
        mine = whole(row["rollout"] if table == columns.HISTORY.name else row["id"])
        return row if mine else row | {name: reach.WITHHELD for name in words if row[name]}

    return withhold


def _counted(source: Source, bounds: ColumnElement[bool]) -> Any:
    counted = select(func.count()).select_from(source.key[0].table).where(bounds)
    return counted if source.where is None else counted.where(source.where)
