"""The devices of a rollout as rows: which wave, which order, where each stands.

A member is *current* while its rollout is the last that was decided for its slot on its device; only then do reports
move it and the judge looks at it. Whatever changes a member here tells the engine to look at its rollout.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from fleet.people.scope import EVERYTHING, Scope
from fleet.rollouts import phases
from fleet.rollouts.judge import Opened
from fleet.rollouts.model import EXAMPLES, Candidate, Evidence, Threshold
from fleet.rollouts.phases import Standing
from fleet.tables import members, rollouts, stopped_kinds
from modules import canonical
from modules.names import DeviceId, Digest
from modules.protocol.report import Reason, SlotReport

# Bound variables of one statement.
_TOGETHER: Final = 500


def add(
    connection: Connection,
    rollout: int,
    slot: str,
    digest: Digest,
    waves: Iterable[tuple[int, Sequence[Candidate]]],
    *,
    budget: str | None,
) -> None:
    """Enter every device of every wave; ``budget`` is the label by whose values devices are few at a time."""
    rows = [
        {
            "rollout": rollout,
            "device": one.device,
            "slot": slot,
            "digest": digest,
            "wave": number,
            "hardware": one.hardware,
            "place": None if budget is None else f"{budget}={one.labels.get(budget, '')}",
            "current": True,
            "standing": Standing.PLANNED,
            "phase": phases.PLANNED,
        }
        for number, wave in waves
        for one in wave
    ]
    connection.execute(insert(members), rows)


def retire(connection: Connection, devices: Sequence[DeviceId], slot: str, *, by: int | None = None) -> None:
    """Something newer decides about this slot of these devices: rollout ``by``, or a removal."""
    for start in range(0, len(devices), _TOGETHER):
        these = members.c.device.in_(devices[start : start + _TOGETHER]) & (members.c.slot == slot)
        others = these & (members.c.rollout != (by or 0))
        change(connection, others & members.c.current, current=False, superseded_by=by, due=None)
        # What was on its way back to something older goes to something newer instead.
        back = others & members.c.standing.in_((Standing.RECALLED, Standing.RETURNING))
        newer = f"rollout {by} decides about it now" if by else "the slot was emptied"
        change(connection, back, standing=Standing.RETURNED, due=None, note=newer)


def change(connection: Connection, which: ColumnElement[bool], **values: Any) -> int:
    """Change some members, and have the engine look at their rollouts; returns how many they were.

    And at those that wait until fewer devices of the same places are at work.
    """
    touched = connection.execute(select(members.c.rollout, members.c.place).where(which).distinct()).all()
    if not touched:
        return 0
    changed = connection.execute(update(members).where(which).values(**values)).rowcount
    look(connection, {(row.rollout, row.place) for row in touched})
    return changed


def look(connection: Connection, touched: Collection[tuple[int, str | None]]) -> None:
    """The engine is to look at these rollouts, and at those that wait for room at these places."""
    if not touched:
        return
    numbers = {rollout for rollout, _ in touched}
    places = sorted({place for _, place in touched if place is not None})
    for start in range(0, len(places), _TOGETHER):
        here = members.c.place.in_(places[start : start + _TOGETHER])
        waiting = (members.c.standing == Standing.PLANNED) & here & members.c.current
        numbers |= set(connection.scalars(select(members.c.rollout).where(waiting).distinct()))
    connection.execute(update(rollouts).where(rollouts.c.id.in_(numbers)).values(look_at=0))


def of(device: DeviceId, rollout: int) -> ColumnElement[bool]:
    return (members.c.device == device) & (members.c.rollout == rollout)


def fail(connection: Connection, which: ColumnElement[bool], reason: Reason) -> None:
    """These members count as devices that rejected the module: their order was refused, or could not be made."""
    chosen = select(members.c.device, members.c.rollout, members.c.slot, members.c.digest, rollouts.c.module)
    for row in connection.execute(chosen.join(rollouts).where(which)).all():
        said = SlotReport(slot=row.slot, phase="rejected", module=row.module, digest=row.digest, reason=reason)
        values = {"phase": said.phase, "standing": Standing.FAILED, "due": None, "detail": canonical.encode(said)}
        change(connection, of(row.device, row.rollout), **values)


def evidence(connection: Connection, rollout: int, wave: int) -> list[dict[str, Evidence]]:
    """What the judge sees: the devices of each wave up to this one by their hardware, counted by the database.

    A device that failed counts whatever has been decided about its slot since. Kinds of hardware that the rollout was
    stopped for are no evidence any more.
    """
    counted = or_(
        and_(members.c.current, members.c.standing.in_(phases.COUNTED)), members.c.standing == Standing.FAILED
    )
    kinds = (members.c.wave, members.c.hardware, members.c.standing)
    chosen = select(*kinds, func.count().label("devices")).where(
        members.c.rollout == rollout, members.c.wave <= wave, counted
    )
    stopped = stopped_for(connection, rollout)
    found: list[dict[str, Evidence]] = [{} for _ in range(wave)]
    for row in connection.execute(chosen.group_by(*kinds)):
        if row.hardware in stopped:
            continue
        failed = row.standing == Standing.FAILED
        found[row.wave - 1][row.hardware] = found[row.wave - 1].get(row.hardware, Evidence()) + Evidence(
            devices=row.devices,
            committed=row.devices * (row.standing == Standing.SUCCEEDED),
            failed=row.devices * failed,
            planned=row.devices * (row.standing == Standing.PLANNED),
            unreached=row.devices * (row.standing == Standing.UNREACHED),
            examples=_examples(connection, rollout, row.wave, row.hardware) if failed else (),
        )
    return found


def opened(connection: Connection, rollout: int, wave: int, asked: Sequence[Threshold]) -> list[Opened]:
    """The waves up to this one as the judge takes them."""
    found = evidence(connection, rollout, wave)
    return [Opened(threshold, kinds) for threshold, kinds in zip(asked[:wave], found, strict=True)]


def kinds(connection: Connection, rollout: int) -> frozenset[str]:
    """The kinds of hardware that are left in a rollout."""
    chosen = select(members.c.hardware).where(members.c.rollout == rollout, members.c.current).distinct()
    return frozenset(connection.scalars(chosen)) - stopped_for(connection, rollout)


def stopped_for(connection: Connection, rollout: int) -> frozenset[str]:
    """The kinds of hardware that a rollout was stopped for."""
    return frozenset(connection.scalars(select(stopped_kinds.c.hardware).where(stopped_kinds.c.rollout == rollout)))


def counts(connection: Connection, rollout: int, scope: Scope = EVERYTHING) -> dict[str, int]:
    """How many devices stand where; those that a newer rollout took, apart."""
    found: Counter[str] = Counter()
    for wave in counts_by_wave(connection, rollout, scope).values():
        found.update(wave)
    return dict(found)


def counts_by_wave(connection: Connection, rollout: int, scope: Scope = EVERYTHING) -> dict[int, dict[str, int]]:
    """The same for each wave that has devices."""
    kinds = (members.c.wave, members.c.standing, members.c.current)
    mine = (members.c.rollout == rollout) & scope.of_device(members.c.device)
    chosen = select(*kinds, func.count().label("devices")).where(mine).group_by(*kinds).order_by(*kinds)
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(chosen):
        lost = not row.current and row.standing in phases.COUNTED - {Standing.FAILED}
        name = "superseded" if lost else str(row.standing)
        wave = found.setdefault(row.wave, {})
        wave[name] = wave.get(name, 0) + row.devices
    return found


def _examples(connection: Connection, rollout: int, wave: int, hardware: str) -> tuple[str, ...]:
    mine = (members.c.rollout == rollout) & (members.c.wave == wave) & (members.c.hardware == hardware)
    chosen = select(members.c.device, members.c.phase, members.c.health, members.c.note)
    rows = connection.execute(
        chosen.where(mine, members.c.standing == Standing.FAILED).order_by(members.c.device).limit(EXAMPLES)
    )
    return tuple(f"{row.device} {_failure(row)}" for row in rows)


def _failure(row: Any) -> str:
    """How a member failed: a module that was committed may have become unfit since."""
    if row.note:
        return f"{row.phase}, {row.note}"
    by_phase = phases.standing(row.phase) is Standing.FAILED
    return str(row.phase) if by_phase else f"{row.phase}, now {row.health}"
