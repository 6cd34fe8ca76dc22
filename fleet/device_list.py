"""A page of the fleet's devices: filtered, in an order, a bounded number at a time, however many there are.

Pages are told apart by the last device of the one before, not by a number: devices that join meanwhile move none. What
filters and sorts stands in one index of SQLite's, so that no device's documents are read but those that are shown; a
selector that asks for facts, or compares numbers, reads devices until the page is full.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, String, and_, cast, func, literal, or_, select

from fleet.device_states import STATE, State
from fleet.devices import LIVE, described
from fleet.people.scope import EVERYTHING, Scope, of_labels
from fleet.selectors import Labels, Selector, Term
from fleet.tables import devices
from modules.errors import Invalid
from modules.names import DeviceId
from modules.protocol.facts import Facts

Sort = Literal["id", "-id", "last_seen", "-last_seen"]
# So far devices are counted for the sake of a page.
COUNTED: Final = 10_000
FACT: Final = ("host.", "agent.")
_TOGETHER: Final = 500
_SEEN: Final = func.coalesce(devices.c.last_seen, 0.0)


class Wish(NamedTuple):
    """Which devices, in which order, after which place (``Page.after``), and how many; ``None``: all of them."""

    selector: Selector = Selector(())
    search: str = ""
    states: Sequence[State] = ()
    sort: Sort = "id"
    after: str = ""
    limit: int | None = None


ALL: Final = Wish()


class Page(NamedTuple):
    """Ids in their order; ``after`` leads on, empty at the end. ``total``: of all pages, None: it was not counted."""

    devices: list[DeviceId]
    after: str
    total: int | None


def page(connection: Connection, wish: Wish, scope: Scope = EVERYTHING) -> Page:
    """The page that is wished for.

    Raises:
        Invalid: ``after`` is no place of this order.
    """
    every = and_(LIVE, scope.live_devices(), *_wanted(connection, wish))
    down, by_time = wish.sort.startswith("-"), wish.sort.endswith("last_seen")
    chosen = and_(every, _after(wish.after, down=down, by_time=by_time)) if wish.after else every
    order = [_SEEN, devices.c.id] if by_time else [devices.c.id]
    rows = select(devices.c.id, _SEEN.label("seen")).where(chosen)
    rows = rows.order_by(*(one.desc() if down else one for one in order))
    asked, one_more = _read_for(wish.selector), None if wish.limit is None else wish.limit + 1
    if asked.terms:
        found = list(islice(_looked_at(connection, rows, asked), one_more))
    else:
        found = list(connection.execute(rows.limit(one_more)))
    more, found = len(found) == one_more, found[: wish.limit]
    after = (f"{found[-1].seen!r}/{found[-1].id}" if by_time else found[-1].id) if more else ""
    ids = [DeviceId(row.id) for row in found]
    if asked.terms:
        return Page(ids, after, None)
    return Page(ids, after, _count(connection, every) if more or wish.after else len(ids))


def counts(connection: Connection, scope: Scope = EVERYTHING) -> dict[str, int]:
    """How many devices are in which state."""
    chosen = select(STATE, func.count()).where(LIVE, scope.live_devices()).group_by(STATE)
    return {str(word): count for word, count in connection.execute(chosen)}


def _wanted(connection: Connection, wish: Wish) -> Iterator[ColumnElement[bool]]:
    if wish.search:
        # Labels as they are stored: keys and values, and nothing that a label may hold needs an escape there.
        text = (devices.c.id, cast(devices.c.labels, String))
        # SQLite compares letters whatever their case; asked for that, it would make a copy of each text.
        plain = connection.dialect.name == "sqlite"
        has = (one.contains if plain else one.icontains for one in text)
        yield or_(*(one(wish.search, autoescape=True) for one in has))
    if wish.states:
        yield STATE.in_(wish.states)
    yield of_labels(Selector(tuple(one for one in wish.selector.terms if _in_query(one))))


def _in_query(term: Term) -> bool:
    return not term.key.startswith(FACT) and term.op in {"=", "!=", "in"}


def _read_for(selector: Selector) -> Selector:
    """The terms for which a device has to be read."""
    return Selector(tuple(one for one in selector.terms if not _in_query(one)))


def _after(place: str, *, down: bool, by_time: bool) -> ColumnElement[bool]:
    if not by_time:
        return devices.c.id < place if down else devices.c.id > place
    seen, _, last = place.partition("/")
    try:
        bound = literal(float(seen))
    except ValueError:
        raise Invalid("no page ended there", element="after", remedy="take it from the header Link") from None
    beyond = bound > _SEEN if down else bound < _SEEN
    return or_(beyond, and_(bound == _SEEN, devices.c.id < last if down else devices.c.id > last))


def _count(connection: Connection, every: ColumnElement[bool]) -> int:
    some = select(devices.c.id).where(every).limit(COUNTED + 1).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


def _looked_at(connection: Connection, rows: Any, asked: Selector) -> Iterator[Row[Any]]:
    """Those of these rows that fit."""
    every = rows.add_columns(devices.c.labels, devices.c.facts).execution_options(yield_per=_TOGETHER)
    return (row for row in connection.execute(every) if asked.matches(_labels(row)))


def _labels(row: Row[Any]) -> Labels:
    labels: dict[str, str | frozenset[str]] = row.labels | {"id": row.id}
    return labels | (described(msgspec.json.decode(row.facts, type=Facts)) if row.facts else {})
