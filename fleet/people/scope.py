"""Where somebody's rights hold: some groups of devices, by their labels, and the modules of some teams.

What lies outside does not exist for them. Queries get a condition from here; nothing is filtered afterwards. A rollout
is seen by whoever may see one of its devices and its module's team, and belongs to whoever may see all of its devices.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import Column, ColumnElement, and_, exists, false, func, not_, or_, select, true

from fleet.selectors import Selector, Term
from fleet.tables import devices, joins, members, pending, rollouts
from modules.errors import Invalid

_OPERATORS: Final = frozenset({"=", "!=", "in"})


class Area(msgspec.Struct, frozen=True):
    """Devices with these labels, and modules of these teams; ``None``: of every team."""

    selector: Selector
    teams: frozenset[str] | None

    @property
    def unlimited(self) -> bool:
        return not self.selector.terms and self.teams is None

    def check(self) -> None:
        """Whether labels alone decide.

        Raises:
            Invalid: a term asks for what a device says of itself, which it could change, or compares numbers.
        """
        for term in self.selector.terms:
            if term.key.startswith(("host.", "agent.")) or term.op not in _OPERATORS:
                raise Invalid(
                    f"{term} cannot bound what somebody may see",
                    element="selector",
                    remedy="use labels, or id, with =, != and in",
                )

    def has_team(self, team: str) -> bool:
        return self.teams is None or team in self.teams

    def within(self, other: "Area") -> bool:
        """Whether all of it lies in another area, as both are written."""
        teams = other.teams is None or (self.teams is not None and self.teams <= other.teams)
        return teams and set(other.selector.terms) <= set(self.selector.terms)

    def __and__(self, other: "Area") -> "Area":
        terms = dict.fromkeys((*self.selector.terms, *other.selector.terms))
        both = {self.teams, other.teams} - {None}
        teams = frozenset.intersection(*(one for one in both if one is not None)) if both else None
        return Area(Selector(tuple(terms)), teams)

    def __str__(self) -> str:
        teams = "" if self.teams is None else f"teams {', '.join(sorted(self.teams))}"
        where = str(self.selector) if self.selector.terms else ""
        return "; ".join(one for one in (where, teams) if one)


class Scope(msgspec.Struct, frozen=True):
    """One or more areas; none: nothing at all."""

    areas: tuple[Area, ...]

    @property
    def unlimited(self) -> bool:
        return any(one.unlimited for one in self.areas)

    @property
    def groups(self) -> str:
        """The groups of devices, for messages."""
        return " or ".join(str(one.selector) for one in self.areas)

    def __and__(self, other: "Scope") -> "Scope":
        both = (one & another for one in self.areas for another in other.areas)
        return Scope(tuple(dict.fromkeys(one for one in both if one.teams is None or one.teams)))

    def of_team(self, team: str) -> "Scope":
        """The areas that have this team."""
        return Scope(tuple(one for one in self.areas if one.has_team(team)))

    def has_team(self, team: str) -> bool:
        return bool(self.of_team(team).areas)

    # Conditions for queries

    def live_devices(self) -> ColumnElement[bool]:
        """Rows of ``devices``: all where the scope has no bound, removed ones too; else those of the fleet."""
        if any(not one.selector.terms for one in self.areas):
            return true()
        return and_(devices.c.removed.is_(None), _any(_labels(one, _of_device) for one in self.areas))

    def of_device(self, column: Column[Any]) -> ColumnElement[bool]:
        """Rows whose column names a device."""
        if any(not one.selector.terms for one in self.areas):
            return true()
        return column.in_(select(devices.c.id).where(self.live_devices()))

    def of_joins(self) -> ColumnElement[bool]:
        """Rows of ``joins`` with which nobody but devices of the scope joins, by the labels that they get."""
        return self._joining(joins.c.name)

    def of_pending(self) -> ColumnElement[bool]:
        """Rows of ``pending`` whose keys would be devices of the scope."""
        mine = exists().where(joins.c.id == pending.c.join, self._joining(pending.c.name))
        return true() if any(not one.selector.terms for one in self.areas) else mine.correlate(pending)

    def _joining(self, name: Column[Any]) -> ColumnElement[bool]:
        if any(not one.selector.terms for one in self.areas):
            return true()
        # Other hardware takes its place among the labels that the device has: only in a scope that has the device.
        theirs = or_(not_(joins.c.readmit), self.of_device(joins.c.name))
        return and_(theirs, _any(_labels(one, _of_join(name)) for one in self.areas))

    def of_team_column(self, column: Column[Any]) -> ColumnElement[bool]:
        """Rows whose column names a team."""
        if any(one.teams is None for one in self.areas):
            return true()
        return column.in_(sorted({team for one in self.areas for team in one.teams or ()}))

    def some_rollouts(self) -> ColumnElement[bool]:
        """Rows of ``rollouts`` that have a device and a module of the same area."""
        return true() if self.unlimited else _any(_rollouts(one) for one in self.areas)

    def some_members(self) -> ColumnElement[bool]:
        """Rows of ``members`` whose device and whose rollout's module are of the same area."""
        return true() if self.unlimited else _any(_members(one) for one in self.areas)


EVERYTHING: Final = Scope((Area(Selector(()), None),))


def _any(conditions: Iterable[ColumnElement[bool]]) -> ColumnElement[bool]:
    return or_(false(), *conditions)


def of_labels(selector: Selector) -> ColumnElement[bool]:
    """Rows of ``devices`` that a selector of labels means."""
    return _labels(Area(selector, None), _of_device)


# What a row says of the label with this key.
_Value = Callable[[str], ColumnElement[Any]]


def _labels(area: Area, value: _Value) -> ColumnElement[bool]:
    return and_(true(), *(_term(term, value(term.key)) for term in area.selector.terms))


def _term(term: Term, value: ColumnElement[Any]) -> ColumnElement[bool]:
    if term.op != "!=":
        return value.in_(term.values)
    other = value != term.values[0]
    # A device always has an id; of who will join it may not be known yet, and is then nobody's.
    return and_(value.is_not(None), other) if term.key == "id" else or_(value.is_(None), other)


def _of_device(key: str) -> ColumnElement[Any]:
    return devices.c.id if key == "id" else devices.c.labels[key].as_string()


def _of_join(name: Column[Any]) -> _Value:
    """As whoever joins under this name will have it: labels of the row, over those of a device that comes back."""

    def value(key: str) -> ColumnElement[Any]:
        if key == "id":
            return name
        before = select(_of_device(key)).where(
            devices.c.id == joins.c.name, devices.c.removed.is_(None), joins.c.readmit
        )
        return func.coalesce(joins.c.labels[key].as_string(), before.correlate(joins).scalar_subquery())

    return value


def _rollouts(area: Area) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = []
    if area.teams is not None:
        conditions.append(_any(rollouts.c.module.startswith(f"{one}/", autoescape=True) for one in sorted(area.teams)))
    if area.selector.terms:
        # Removed devices have no labels, and so belong to nobody's area.
        mine = select(members.c.rollout).where(Scope((area,)).of_device(members.c.device))
        conditions.append(rollouts.c.id.in_(mine))
    return and_(true(), *conditions)


def _members(area: Area) -> ColumnElement[bool]:
    theirs = members.c.rollout.in_(select(rollouts.c.id).where(_rollouts(area)))
    return and_(theirs, Scope((area,)).of_device(members.c.device))
