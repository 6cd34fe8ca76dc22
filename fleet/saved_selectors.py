"""Selectors that people keep under a name: their own, and those that everybody who may read devices finds.

A name of one's own hides a shared one. A shared one says no more than its words: whom it means, each sees as far as
their rights reach.
"""

from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from fleet import selectors
from fleet.look_tables import saved_selectors
from fleet.people.principal import Principal
from fleet.people.scope import Scope
from fleet.refusals import Conflict, Forbidden, Missing
from modules.names import Slug

#: of each person, and as many that are shared
MOST: Final = 100
_SHARED: Final = ""


def view_all(connection: Connection, who: Principal) -> list[dict[str, Any]]:
    """One's own and the shared ones, by name."""
    mine = saved_selectors.c.owner.in_([_owner(who), _SHARED])
    rows = connection.execute(select(saved_selectors).where(mine).order_by(saved_selectors.c.name))
    return [
        {"name": row.name, "selector": row.selector, "shared": row.owner == _SHARED, "by": row.by, "at": row.at}
        for row in rows
    ]


def save(connection: Connection, now: float, who: Principal, name: Slug, selector: str, shared: Scope | None) -> None:
    """Keep a selector, or change one of that name; ``shared``: for everybody, where whoever asks may share.

    Raises:
        Invalid: the selector is unreadable.
        Forbidden: it is somebody else's, and whoever asks has rights for a part of the fleet alone.
        Conflict: there are too many.
    """
    selectors.parse(selector)
    owner = _owner(who) if shared is None else _SHARED
    _check_other(connection, who, name, shared)
    mine = saved_selectors.c.owner == owner
    connection.execute(delete(saved_selectors).where(mine, saved_selectors.c.name == name))
    if connection.execute(select(func.count()).where(mine)).scalar_one() >= MOST:
        raise Conflict(f"{MOST} selectors are kept already", element=name, remedy="remove some first")
    values = {"owner": owner, "name": name, "selector": selector, "at": now, "by": who.name}
    connection.execute(insert(saved_selectors).values(**values))


def remove(connection: Connection, who: Principal, name: Slug, shared: Scope | None) -> None:
    """Forget one.

    Raises:
        Missing: there is none of that name.
        Forbidden: as :func:`save`.
    """
    owner = _owner(who) if shared is None else _SHARED
    _check_other(connection, who, name, shared)
    mine = (saved_selectors.c.owner == owner) & (saved_selectors.c.name == name)
    if not connection.execute(delete(saved_selectors).where(mine)).rowcount:
        raise Missing("there is no such saved selector", element=name)


def _check_other(connection: Connection, who: Principal, name: Slug, shared: Scope | None) -> None:
    """A shared one of somebody else is changed by who has rights for the whole fleet."""
    if shared is None or shared.unlimited:
        return
    mine = (saved_selectors.c.owner == _SHARED) & (saved_selectors.c.name == name)
    by = connection.scalar(select(saved_selectors.c.by).where(mine))
    if by not in {None, who.name}:
        raise Forbidden(f"{by} shares a selector of this name", element=name, remedy="give yours another name")


def _owner(who: Principal) -> str:
    return f"operator {who.operator}" if who.operator is not None else f"token {who.token}"
