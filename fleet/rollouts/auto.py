"""Continuous deployment: a newly signed version of a model whose tags match starts a rollout by itself.

A rule names a model, the tags that a version must have, and what to roll out where by which policy. A version is looked
at once, when it is signed; one that cannot be rolled out is an event, and the rule waits for the next. No rule goes
back: a version that is not above the one that the rule started last starts nothing.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from fleet import events, selectors
from fleet.people.principal import NAME_LIMIT
from fleet.people.scope import EVERYTHING, Area, Scope
from fleet.refusals import Conflict, Missing
from fleet.registry import Registry
from fleet.rollouts import four_eyes, shares_start
from fleet.rollouts import policy as policies
from fleet.rollouts.shares_start import ShiftWish, check_policy
from fleet.rollouts.start import NOBODY, Starter, Wish, start
from fleet.tables import auto_rollouts, releases
from fleet.targets.endpoints import Endpoints
from modules import canonical
from modules.errors import Invalid, Refused
from modules.names import ModuleRef, Slug, Version

Alone = Callable[[Connection, str, str], AbstractContextManager[None]]
MAX_RULES: Final = 100


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What starts: of devices (``wish``), or of an endpoint's requests (``shift``); one of both.

    Its module is of any version of the model; ``tags`` must all be among the manifest's, with these values.
    """

    name: Slug
    wish: Wish | msgspec.UnsetType = msgspec.UNSET
    shift: ShiftWish | msgspec.UnsetType = msgspec.UNSET
    tags: dict[str, str] = {}

    @property
    def asked(self) -> Wish | ShiftWish:
        found = self.wish or self.shift
        assert found  # noqa: S101 - for mypy: one of both
        return found


def add(
    connection: Connection, now: float, rule: Rule, maker: Starter = NOBODY, *, needs_another: bool = False
) -> None:
    """Remember a rule; versions that are signed from now on may start it, and ``maker`` is who started it then.

    Raises:
        Conflict: there is one of this name, or too many.
        Invalid: its policy begins at a moment, or says what does not hold for its endpoint.
        Missing: there is no such endpoint.
        Forbidden: what it starts another person has to approve, and nobody knows which operator makes it.
    """
    if needs_another:
        four_eyes.check_starter(maker.operator, rule.name)
    if rule.asked.policy.starts is not None:
        raise Invalid(
            "a rule starts a rollout whenever a version is signed",
            element="policy.starts",
            remedy="leave starts out, and give windows if devices may switch at certain times alone",
        )
    if rule.shift:
        _check_endpoint(connection, rule.shift)
    names = connection.scalars(select(auto_rollouts.c.name)).all()
    if rule.name in names or len(names) >= MAX_RULES:
        problem = "there is one of this name" if rule.name in names else f"there are {MAX_RULES} of them already"
        raise Conflict(problem, element=rule.name, remedy="remove one first: edgefleet auto-rollouts remove NAME")
    values: dict[str, Any] = {
        "name": rule.name,
        "team": rule.asked.module.team,
        "model": rule.asked.module.name,
        "by": maker.name,
    }
    values |= {"starter": maker.operator}
    connection.execute(insert(auto_rollouts).values(**values, rule=canonical.encode(rule), created=now))


def _check_endpoint(connection: Connection, shift: ShiftWish) -> None:
    row = Endpoints.row(connection, shift.endpoint)
    if shift.module.team != row.team:
        raise Invalid(f"it serves modules of team {row.team}", element=str(shift.module), remedy="name one of theirs")
    check_policy(shift.policy)


def remove(connection: Connection, name: str, scope: Scope = EVERYTHING) -> None:
    """Forget a rule; what it has started goes on.

    Raises:
        Missing: there is none of this name, in this scope.
    """
    if name not in {one["name"] for one in every(connection, scope)}:
        raise Missing("there is no such rule", element=name)
    connection.execute(delete(auto_rollouts).where(auto_rollouts.c.name == name))


def every(connection: Connection, scope: Scope = EVERYTHING) -> list[dict[str, Any]]:
    """The rules by name, as the API shows them; of a bounded scope those whose selector keeps to it."""
    wanted = select(auto_rollouts).where(scope.of_team_column(auto_rollouts.c.team)).order_by(auto_rollouts.c.name)
    return [_shown(row) for row in connection.execute(wanted) if scope.unlimited or _keeps_to(scope, row)]


def _keeps_to(scope: Scope, row: Row[Any]) -> bool:
    rule = msgspec.json.decode(row.rule, type=Rule)
    # An endpoint is no device: of a rule for one, only who has all of them sees anything.
    wanted = Area(selectors.parse(rule.wish.selector if rule.wish else "*"), frozenset({row.team}))
    return any(wanted.within(one) for one in scope.areas)


def signed(connection: Connection, ref: ModuleRef) -> None:
    """A version was signed; the engine looks at it with its next tick."""
    if connection.execute(select(releases).where(releases.c.module == str(ref))).one_or_none() is None:
        connection.execute(insert(releases).values(module=str(ref)))


def some(
    connection: Connection, now: float, registry: Registry, alone: Alone, *, limit: int, needs_another: bool = False
) -> bool:
    """Look at the next versions that were signed; True if there may be more."""
    chosen = connection.scalars(select(releases.c.module).order_by(releases.c.module).limit(limit)).all()
    for text in chosen:
        connection.execute(delete(releases).where(releases.c.module == text))
        ref = ModuleRef.parse(text)
        mine = (auto_rollouts.c.team == ref.team) & (auto_rollouts.c.model == ref.name)
        for row in connection.execute(select(auto_rollouts).where(mine).order_by(auto_rollouts.c.name)).all():
            with alone(connection, "automatic rollout", f"{row.name}: {ref}"):
                _start(connection, now, registry, row, ref, needs_another=needs_another)
    return len(chosen) == limit


def _start(
    connection: Connection, now: float, registry: Registry, row: Row[Any], ref: ModuleRef, *, needs_another: bool
) -> None:
    rule = msgspec.json.decode(row.rule, type=Rule)
    if row.last is not None and ref.version <= Version.parse(row.last):
        return
    manifest, _ = registry.signed(connection, ref)
    if not _has(manifest.tags, rule.tags):
        return
    starter = Starter(f"rule {row.name} of {row.by or 'an operator'}"[:NAME_LIMIT], row.starter)
    try:
        with connection.begin_nested():
            asked = msgspec.structs.replace(rule.asked, module=ref)
            if isinstance(asked, ShiftWish):
                rollout = shares_start.start(connection, now, registry, asked, starter, needs_another=needs_another)
            else:
                rollout = start(connection, now, registry, asked, starter, needs_another=needs_another)
    except Refused as error:
        events.record(connection, now, "auto-rollout-refused", f"{row.name}: {ref}: {error}", by=row.by)
        return
    connection.execute(
        update(auto_rollouts).where(auto_rollouts.c.name == row.name).values(last=str(ref.version), rollout=rollout)
    )


def _has(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(tags.get(key) == value for key, value in wanted.items())


def _shown(row: Row[Any]) -> dict[str, Any]:
    rule = msgspec.json.decode(row.rule, type=Rule)
    slot, selector = (rule.wish.slot, rule.wish.selector) if rule.wish else ("", "")
    return {
        "name": row.name,
        "model": f"{row.team}/{row.model}",
        "tags": rule.tags,
        "slot": slot,
        "selector": selector,
        "endpoint": rule.shift.endpoint if rule.shift else None,
        "policy": policies.written(rule.asked.policy),
        "last": row.last,
        "rollout": None if row.rollout is None else str(row.rollout),
        "created": row.created,
        "by": row.by,
    }
