"""What a path or a wish names, held against a scope: what lies outside is answered as if it did not exist."""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Row, func, not_, select

from fleet import joins, pending, selectors
from fleet.command_tables import commands
from fleet.people.principal import Principal
from fleet.people.scope import Area, Scope
from fleet.refusals import Forbidden, Missing
from fleet.rollouts.start import Wish
from fleet.tables import devices, members, rollouts
from fleet.tables import joins as join_rows
from fleet.tables import pending as pending_rows
from fleet.target_tables import endpoints, jobs
from modules.errors import Invalid

# Instead of words about devices that whoever asks may not see.
WITHHELD: Final = "it has devices outside of what your rights are for"
_TOGETHER: Final = 500
# Of a number of 32 bits, which PostgreSQL takes.
_DIGITS: Final = 9


def check_path(connection: Connection, scope: Scope, named: Mapping[str, str], *, changes: bool) -> None:
    """Hold what a path names against a scope.

    That is ``{device}``, ``{waiting}``, ``{join}``, ``{command}``, ``{rollout}``, ``{endpoint}``, ``{job}`` and
    ``{team}``.

    Raises:
        Missing: one of them lies outside, or does not exist.
        Forbidden: the request changes a rollout that has devices outside, too.
    """
    if "device" in named:
        check_devices(connection, scope, [named["device"]])
    if "waiting" in named:
        _check_waiting(connection, scope, named["waiting"])
    if "join" in named:
        _check_join(connection, scope, named["join"])
    if "command" in named:
        _check_command(connection, scope, named["command"])
    if "endpoint" in named:
        _check_endpoint(connection, scope, named["endpoint"])
    if "job" in named:
        _check_job(connection, scope, named["job"])
    if "batch" in named:
        _check_batch(connection, scope, named["batch"])
    if "team" in named and not scope.has_team(named["team"]):
        raise Missing("there is no such team", element=named["team"][:63])
    if "rollout" in named:
        _check_rollout(connection, scope, named["rollout"], changes=changes)


def permitted(connection: Connection, who: Principal, named: Mapping[str, str]) -> list[str]:
    """What somebody may do with what is named as a path names it: the permissions that a route would find."""
    answers: dict[tuple[Scope, bool], bool] = {}
    found = []
    for permission in who.permissions:
        # Of what a path names, a rollout alone may be seen and not be changed.
        asked = (who.scope(permission), not permission.endswith(":read"))
        if asked not in answers:
            answers[asked] = asked[0].unlimited or _passes(connection, asked[0], named, changes=asked[1])
        if answers[asked]:
            found.append(permission)
    return found


def _passes(connection: Connection, scope: Scope, named: Mapping[str, str], *, changes: bool) -> bool:
    try:
        check_path(connection, scope, named, changes=changes)
    except (Missing, Forbidden):
        return False
    return True


def check_devices(connection: Connection, scope: Scope, named: list[str]) -> None:
    """Whether all of these devices lie in a scope.

    Raises:
        Missing: one does not, or does not exist.
    """
    for start in range(0, len(named), _TOGETHER):
        some = named[start : start + _TOGETHER]
        mine = devices.c.id.in_(some) & devices.c.removed.is_(None) & scope.live_devices()
        found = set(connection.scalars(select(devices.c.id).where(mine)))
        for device in some:
            if device not in found:
                raise Missing("there is no such device", element=device[:63])


def check_kept(connection: Connection, scope: Scope, device: str) -> None:
    """Whether a device whose labels were just changed still lies in a scope; the caller's transaction ends otherwise.

    Raises:
        Forbidden: it does not: it would be in a group that whoever asks has no rights for.
    """
    mine = (devices.c.id == device) & scope.live_devices()
    if connection.execute(select(devices.c.id).where(mine)).one_or_none() is None:
        raise Forbidden(
            "with these labels the device would be outside of what your rights are for",
            element=device,
            remedy="keep the labels by which it is yours",
        )


def beyond(connection: Connection, scope: Scope, rollout: int, module: str) -> bool:
    """Whether a rollout has devices, or devices that it does not fit, outside a scope."""
    mine = scope.of_team(module.partition("/")[0])
    if any(not one.selector.terms for one in mine.areas):
        return False
    visible = mine.of_device(members.c.device) if mine.areas else members.c.device.is_(None)
    others = select(func.count()).where(members.c.rollout == rollout, not_(visible))
    if connection.execute(others).scalar_one():
        return True
    misfits = connection.execute(select(rollouts.c.misfits).where(rollouts.c.id == rollout)).scalar_one()
    named = {str(one["device"]) for one in misfits}
    return named != seen_of(connection, mine, named)


def seen_of(connection: Connection, scope: Scope, named: set[str]) -> set[str]:
    """Those of these devices that lie in a scope."""
    some, found = sorted(named), set[str]()
    for start in range(0, len(some), _TOGETHER):
        mine = devices.c.id.in_(some[start : start + _TOGETHER]) & scope.live_devices()
        found |= set(connection.scalars(select(devices.c.id).where(mine)))
    return found


def narrowed(connection: Connection, scope: Scope, wish: Wish) -> Wish:
    """The wish, cut to what lies in a scope: its selector says so, and so holds for devices that join late.

    Raises:
        Missing: the module's team or a device that is named lies outside.
        Invalid: the rights are for several groups of devices, and the selector names none of them.
    """
    if scope.unlimited:
        return wish
    mine = scope.of_team(wish.module.team)
    if not mine.areas:
        raise Missing("there is no such module", element=str(wish.module))
    if wish.devices is not None:
        check_devices(connection, mine, list(wish.devices))
        return wish
    wanted = Area(selectors.parse(wish.selector), frozenset({wish.module.team}))
    return msgspec.structs.replace(wish, selector=_cut(mine, wanted, wish.selector, "a rollout"))


def cut(scope: Scope, selector: str, what: str) -> str:
    """The selector of what is wished for, so that it means devices of a scope alone, now and later.

    Raises:
        Invalid: it cannot be read, or the rights are for several groups of devices, and it names none of them.
    """
    return _cut(scope, Area(selectors.parse(selector), None), selector, what)


def _cut(scope: Scope, wanted: Area, selector: str, what: str) -> str:
    if any(wanted.within(one) for one in scope.areas):
        return selector
    if len(scope.areas) > 1:
        raise Invalid(
            f"your rights are for several groups of devices, and {what} needs one of them",
            element="selector",
            remedy=f"begin the selector with {scope.groups}",
        )
    return str((wanted & scope.areas[0]).selector)


def _check_waiting(connection: Connection, scope: Scope, named: str) -> None:
    mine = (pending_rows.c.name == named) & (pending_rows.c.state == pending.WAITING) & scope.of_pending()
    if connection.execute(select(pending_rows.c.name).where(mine)).first() is None:
        raise pending.none_waits(named[:63])


def _check_join(connection: Connection, scope: Scope, named: str) -> None:
    found = None
    if named.isascii() and named.isdecimal() and len(named) <= _DIGITS:
        mine = (join_rows.c.id == int(named)) & scope.of_joins()
        found = connection.execute(select(join_rows.c.id).where(mine)).one_or_none()
    if found is None:
        raise joins.none_such(named[:40])


def _check_command(connection: Connection, scope: Scope, named: str) -> None:
    mine = (commands.c.id == named) & scope.of_device(commands.c.device)
    if connection.execute(select(commands.c.number).where(mine)).one_or_none() is None:
        raise Missing("there is no such command", element=named[:40])


def _check_endpoint(connection: Connection, scope: Scope, named: str) -> None:
    mine = (endpoints.c.name == named) & scope.of_team_column(endpoints.c.team)
    if connection.execute(select(endpoints.c.name).where(mine)).one_or_none() is None:
        raise Missing("there is no such endpoint", element=named[:63], remedy="see: edgefleet endpoints list")


def _check_job(connection: Connection, scope: Scope, named: str) -> None:
    mine = (jobs.c.name == named) & scope.of_team_column(jobs.c.team)
    if connection.execute(select(jobs.c.name).where(mine)).one_or_none() is None:
        raise Missing("there is no such batch job", element=named[:63], remedy="see: edgefleet batch list")


def _check_batch(connection: Connection, scope: Scope, named: str) -> None:
    mine = (jobs.c.batch == named) & scope.of_team_column(jobs.c.team)
    if connection.execute(select(jobs.c.name).where(mine)).first() is None:
        raise Missing("there is no such batch job", element=named[:63], remedy="see: edgefleet batch list")


def _check_rollout(connection: Connection, scope: Scope, named: str, *, changes: bool) -> None:
    row: Row[tuple[str]] | None = None
    if named.isascii() and named.isdecimal() and len(named) <= _DIGITS:
        mine = (rollouts.c.id == int(named)) & scope.some_rollouts()
        row = connection.execute(select(rollouts.c.module).where(mine)).one_or_none()
    if row is None:
        raise Missing("there is no such rollout", element=named[:40])
    if changes and beyond(connection, scope, int(named), row.module):
        raise Forbidden(
            "this rollout has devices outside of what your rights are for",
            element=f"rollout {named}",
            remedy="ask somebody with rights for all of them",
        )
