"""On how many devices each module version runs: what was committed there last, whatever newer one is planned."""

from collections import Counter
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
    runs, coming = Counter[int](), Counter[int]()
    # Grouped as the judge's index has them, so that it is read from end to end, and no member.
    columns = (members.c.rollout, members.c.wave, members.c.hardware, members.c.standing, members.c.current)
    for row in connection.execute(select(*columns, func.count().label("devices")).where(mine).group_by(*columns)):
        if row.current and row.standing == Standing.SUCCEEDED:
            runs[row.rollout] += row.devices
    open_ = select(members.c.rollout).where(members.c.current, members.c.standing != Standing.SUCCEEDED).distinct()
    unsettled = set(connection.scalars(open_))
    if unsettled:
        of_rollouts = select(members.c.rollout, func.count()).where(mine).group_by(members.c.rollout)
        before = _before(unsettled)
        theirs = (before.c.rollout == members.c.rollout) & (before.c.device == members.c.device)
        for rollout, count in connection.execute(of_rollouts.join(before, theirs)):
            runs[rollout] += count
        working = members.c.current & (members.c.standing == Standing.WORKING) & members.c.phase.not_in(_HAS)
        on_the_way = of_rollouts.where(members.c.rollout.in_(unsettled), working)
        for rollout, count in connection.execute(on_the_way):
            coming[rollout] += count
    named = select(rollouts.c.id, rollouts.c.module).where(rollouts.c.id.in_({*runs, *coming}))
    by: dict[str, list[int]] = {}
    for rollout, module in connection.execute(named):
        place = by.setdefault(module, [0, 0])
        place[0] += runs[rollout]
        place[1] += coming[rollout]
    most_used = sorted(by.items(), key=lambda one: (-sum(one[1]), one[0]))[:most]
    return [{"module": name, "devices": here, "on_the_way": comes} for name, (here, comes) in most_used]


def _before(unsettled: set[int]) -> Any:
    """Of each device of these rollouts that has not come to a good end with what is wanted: whose content it runs.

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
    mine = newest.c.rollout.in_(unsettled) & newest.c.current & (newest.c.standing != Standing.SUCCEEDED)
    return select(newest.c.device, runs.label("rollout")).where(mine).subquery()
