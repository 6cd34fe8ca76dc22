"""What an operator does with rollouts: pause, resume, cancel, revert, approve, retry, skip, and empty a slot."""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, or_, select, update

from fleet import revisions
from fleet.orders import Orders
from fleet.refusals import Conflict, Missing
from fleet.rollouts import emptying, four_eyes, history, members, parts, phases, recall
from fleet.rollouts.model import AskedWave
from fleet.rollouts.phases import Standing, State
from fleet.tables import members as rows
from fleet.tables import rollout_columns, rollouts, stopped_kinds
from modules.names import DeviceId, Slug

ENDED: Final = frozenset({State.DONE, State.PARTIAL, State.FAILED})


def pause(connection: Connection, now: float, rollout: int, *, by: str = "") -> None:
    """Open no wave and give no order; devices keep the orders they have.

    Raises:
        Missing, Conflict: as all functions here: there is no such rollout, or its state does not allow it.
    """
    _move(connection, now, rollout, State.PAUSED, "pause", by)


def resume(
    connection: Connection,
    now: float,
    rollout: int,
    *,
    by: str = "",
    operator: int | None = None,
    needs_another: bool = False,
) -> None:
    """Go on with a paused rollout; ``operator`` and ``needs_another`` as for :func:`approve`.

    Raises:
        Forbidden: another person than who started it has to say so.
    """
    row = get(connection, rollout)
    if row.state != State.PAUSED:
        raise _conflict(row, "resume")
    _check_another(row, operator, f"rollout {rollout} resume", needs_another=needs_another)
    scheduled = row.starts is not None and row.starts > now and row.wave == 0
    _move(connection, now, rollout, State.SCHEDULED if scheduled else State.RUNNING, "resume", by)


def cancel(connection: Connection, now: float, rollout: int, *, by: str = "") -> None:
    """End it. It is taken back from each device that has neither committed nor failed, and from no other.

    On an endpoint the new version keeps what complete waves have given it.
    """
    row = _move(connection, now, rollout, State.CANCELLED, "cancel", by)
    parts.of(row).back(connection, now, row, "the rollout was cancelled", unended=True)


def revert(connection: Connection, now: float, rollout: int, *, by: str = "") -> None:
    """Take it back from every device, each to exactly what was decided for its slot before."""
    row = get(connection, rollout)
    parts.of(row).check(connection, row, "revert")
    _move(connection, now, rollout, State.REVERTING, "revert", by)
    parts.of(row).back(connection, now, row, "the rollout was reverted")


def approve(
    connection: Connection,
    now: float,
    rollout: int,
    *,
    by: str = "",
    approver: int | None = None,
    needs_another: bool = False,
) -> None:
    """Let the next wave open, once all that are open are complete.

    ``approver`` is the operator that ``by`` means; None: none that is known. ``needs_another``: the setting
    ``four_eyes`` is on.

    Raises:
        Forbidden: another person than who started the rollout has to approve it.
    """
    row = get(connection, rollout)
    if row.state not in {State.RUNNING, State.PAUSED, State.SCHEDULED} or row.wave >= row.waves:
        raise _conflict(row, "approve")
    asked = msgspec.json.decode(row.plan, type=list[AskedWave])[row.wave]
    if needs_another or asked.threshold.four_eyes:
        remedy = "ask somebody else whose roles have rollout:approve"
        four_eyes.check_another(row.starter, approver, f"rollout {rollout} approve", to="approve it", remedy=remedy)
    wave = row.wave + 1
    if row.approved >= wave:
        raise Conflict(f"wave {wave} is approved already", element=f"rollout {rollout} approve")
    connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(approved=wave, look_at=0))
    history.add(connection, now, rollout, f"wave {wave} approved by {by or 'an operator'}", by=by)


def retry(
    connection: Connection,
    now: float,
    rollout: int,
    *,
    by: str = "",
    operator: int | None = None,
    needs_another: bool = False,
) -> None:
    """Let the devices that failed try the same content again, and go on for the hardware that it was stopped for.

    Raises:
        Forbidden: as :func:`resume`, where it has ended.
    """
    row = get(connection, rollout)
    if row.state not in {State.RUNNING, State.PAUSED, *ENDED}:
        raise _conflict(row, "retry")
    if row.state in ENDED:
        _check_another(row, operator, f"rollout {rollout} retry", needs_another=needs_another)
    mine = parts.of(row)
    mine.check(connection, row, "retry")
    count = mine.again(connection, row)
    if not count:
        raise Conflict(f"no {mine.noun.one} of it has failed", element=f"rollout {rollout} retry")
    connection.execute(delete(stopped_kinds).where(stopped_kinds.c.rollout == rollout))
    connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(complete_since=None))
    history.add(connection, now, rollout, f"{count} to be tried again by {by or 'an operator'}", by=by)
    if row.state in ENDED:
        move(connection, now, rollout, State.RUNNING, "tried again", by=by)


def skip(connection: Connection, now: float, rollout: int, device: DeviceId, why: str, *, by: str = "") -> None:
    """Leave a device out: it gets no order, or its order is taken back, and nobody waits for it."""
    row = get(connection, rollout)
    if row.state in {State.CANCELLED, State.REVERTING, State.REVERTED}:
        raise _conflict(row, "skip")
    member = connection.execute(select(rows).where(members.of(device, rollout))).one_or_none()
    if member is None:
        raise Missing("it is not in this rollout", element=f"rollout {rollout}, {device}")
    if member.standing not in {*phases.COUNTED, Standing.STOPPED}:
        raise Conflict(f"it is {member.standing} already", element=f"rollout {rollout}, {device}")
    mine = members.of(device, rollout)
    recall.forget_planned(connection, rollout, why, mine)
    if not recall.begin(connection, rollout, why, mine):
        members.change(connection, mine, standing=Standing.SKIPPED, due=None, note=why)
    history.add(connection, now, rollout, f"{device} skipped by {by or 'an operator'}: {why}", by=by)


def move(connection: Connection, now: float, rollout: int, state: State, why: str, *, by: str = "") -> None:
    """Change a rollout's state, which the caller has checked against the table, and say why."""
    values = {"state": state, "waits_for": "", "complete_since": None, "look_at": 0}
    connection.execute(update(rollouts).where(rollouts.c.id == rollout).values(**values))
    history.add(connection, now, rollout, f"{state}: {why}", by=by)


def empty_slot(
    connection: Connection,
    now: float,
    orders: Orders,
    device: DeviceId,
    slot: Slug,
    *,
    by: str = "",
    operator: int | None = None,
    needs_another: bool = False,
) -> int | None:
    """Order a slot's removal; returns the order's counter, or None where it waits for another person's word.

    Raises:
        Missing: no module is ordered for this slot.
        Forbidden: two people have to say so, and nobody knows who says it.
    """
    if needs_another and not emptying.agreed(connection, now, device, slot, by=by, operator=operator):
        return None
    if not revisions.empty(connection, now, by, device, slot):
        raise emptying.none_ordered(device, slot)
    members.retire(connection, [device], slot)
    return orders.issue(connection, now, device)


def depart(connection: Connection, device: DeviceId) -> None:
    """A device was taken out of the fleet: it is accounted for, and no rollout waits for it."""
    open_ = or_(rows.c.current, rows.c.standing.in_((Standing.RECALLED, Standing.RETURNING)))
    mine = (rows.c.device == device) & open_ & (rows.c.standing != Standing.SUCCEEDED)
    members.change(connection, mine, standing=Standing.GONE, due=None, note="it was removed from the fleet")
    members.change(connection, (rows.c.device == device) & rows.c.current, current=False)


def get(connection: Connection, rollout: int) -> Row[Any]:
    """The rollout's row, without its misfits.

    Raises:
        Missing: there is no such rollout.
    """
    row = connection.execute(select(*rollout_columns).where(rollouts.c.id == rollout)).one_or_none()
    if row is None:
        raise Missing("there is no such rollout", element=str(rollout))
    return row


def _move(connection: Connection, now: float, rollout: int, wanted: State, action: str, by: str) -> Row[Any]:
    """Change a rollout's state, if that may be; returns the row of before."""
    row = get(connection, rollout)
    if wanted not in phases.NEXT[State(row.state)]:
        raise _conflict(row, action)
    if row.forgotten is not None:
        raise Conflict(
            "which devices it went to is older than the server keeps (keep_rollouts_s)",
            element=f"rollout {row.id} {action}",
            remedy="start a rollout of the version that you want",
        )
    move(connection, now, rollout, wanted, f"{action} by {by or 'an operator'}", by=by)
    return row


def _check_another(row: Row[Any], operator: int | None, element: str, *, needs_another: bool) -> None:
    waves = msgspec.json.decode(row.plan, type=list[AskedWave])
    gated = needs_another or any(one.threshold.four_eyes for one in waves)
    # One that has not begun, and that nobody has approved, waits for that anyway.
    if gated and (row.wave or row.approved or not waves[0].threshold.four_eyes):
        remedy = "ask somebody else whose roles have rollout:write; pausing, cancelling and reverting need nobody"
        four_eyes.check_another(row.starter, operator, element, to="let it go on", remedy=remedy)


def _conflict(row: Row[Any], action: str) -> Conflict:
    return Conflict(f"a rollout that is {row.state} cannot be changed so", element=f"rollout {row.id} {action}")
