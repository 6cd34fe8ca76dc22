"""On how many devices each module version runs: what was committed there last, whatever newer one is planned."""

from typing import Any, Final

from sqlalchemy import Connection, case, func, select

from fleet.people.scope import Scope
from fleet.rollouts.phases import Standing
from fleet.tables import members, rollouts
from modules.protocol.phases import Phase

# A device says so of content that it runs, well or not.
_HAS: Final = (Phase.COMMITTED, Phase.DEGRADED)


def counted(connection: Connection, scope: Scope, *, most: int) -> list[dict[str, Any]]:
    """By version: on how many devices it runs, and for how many it is on its way; the most used first."""
    mine = scope.some_members()
    # Most of a fleet, most of the time: read from an index.
    settled = members.c.current & (members.c.standing == Standing.SUCCEEDED)
    coming = members.c.current & (members.c.standing == Standing.WORKING) & members.c.phase.not_in(_HAS)
    before = _before()
    theirs = (before.c.rollout == members.c.rollout) & (before.c.device == members.c.device)
    number = func.count()
    of_rollouts = select(members.c.rollout, number).group_by(members.c.rollout)
    found: dict[int, list[int]] = {}
    for at, asked in (
        (0, of_rollouts.where(mine, settled)),
        (0, of_rollouts.join(before, theirs).where(mine)),
        (1, of_rollouts.where(mine, coming)),
    ):
        for rollout, count in connection.execute(asked):
            found.setdefault(rollout, [0, 0])[at] += count
    named = select(rollouts.c.id, rollouts.c.module).where(rollouts.c.id.in_(sorted(found)))
    by: dict[str, list[int]] = {}
    for rollout, module in connection.execute(named):
        by[module] = [one + more for one, more in zip(by.get(module, (0, 0)), found[rollout], strict=True)]
    most_used = sorted(by.items(), key=lambda one: (-sum(one[1]), one[0]))[:most]
    return [{"module": name, "devices": runs, "on_the_way": comes} for name, (runs, comes) in most_used]


def _before() -> Any:
    """Of each device that has not come to a good end with what is wanted there now: the rollout of what it runs.

    That may be the wanted one: it degrades, or a gate is against it. Else the newest that it committed before.
    """
    newest, earlier = members.alias("newest"), members.alias("earlier")
    last = select(func.max(earlier.c.rollout)).where(
        earlier.c.device == newest.c.device,
        earlier.c.slot == newest.c.slot,
        earlier.c.rollout < newest.c.rollout,
        earlier.c.phase.in_(_HAS),
    )
    runs = case((newest.c.phase.in_(_HAS), newest.c.rollout), else_=last.scalar_subquery())
    unsettled = newest.c.current & (newest.c.standing != Standing.SUCCEEDED)
    return select(newest.c.device, runs.label("rollout")).where(unsettled).subquery()
