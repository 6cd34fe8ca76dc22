"""What a verdict of the judge does to a rollout: open a wave, end, stop a kind of hardware, take back."""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, insert, update

from fleet.rollouts import control, history, members, parts, recall
from fleet.rollouts.judge import Decision, Moment, Verdict, judge
from fleet.rollouts.model import DEVICES, AskedWave, Policy
from fleet.rollouts.phases import Standing, State
from fleet.tables import members as rows
from fleet.tables import rollouts, stopped_kinds


def apply(connection: Connection, now: float, row: Row[Any], policy: Policy) -> float | None:
    """Judge a running rollout and do what the verdict says; returns when it is to be looked at again."""
    verdict = ask(connection, now, row)
    match verdict.decision:
        case Decision.DONE:
            _end(connection, now, row, policy, verdict)
        case Decision.FAIL:
            _fail(connection, now, row, policy, verdict)
        case Decision.SUPERSEDED:
            control.move(connection, now, row.id, State.CANCELLED, verdict.reason)
        case Decision.STOP:
            _stop(connection, now, row, policy, verdict)
            return now
        case Decision.ADVANCE:
            values = {"wave": row.wave + 1, "complete_since": None, "waits_for": ""}
            connection.execute(update(rollouts).where(rollouts.c.id == row.id).values(**values))
            history.add(connection, now, row.id, f"wave {row.wave + 1} opened: {verdict.reason}")
            return now
        case Decision.HOLD:
            _hold(connection, now, row, verdict)
    return verdict.again


def reopen(connection: Connection, now: float, row: Row[Any]) -> None:
    """Judge a rollout that has ended again, for a device that had committed may have gone back.

    Nothing is taken back by itself any more: long after the end, an operator knows better what a failure means.
    """
    verdict = ask(connection, now, row)
    if verdict.decision not in {Decision.FAIL, Decision.STOP}:
        return
    control.move(connection, now, row.id, State.RUNNING, f"open again, {verdict.reason}")
    if verdict.decision is Decision.FAIL:
        control.move(connection, now, row.id, State.FAILED, verdict.reason)
    if verdict.decision is Decision.STOP:
        _stop(connection, now, row, None, verdict)


def ask(connection: Connection, now: float, row: Row[Any]) -> Verdict:
    """The judge's verdict on what the database says now."""
    asked = [wave.threshold for wave in msgspec.json.decode(row.plan, type=list[AskedWave])]
    moment = Moment(now=now, complete_since=row.complete_since, approved=row.approved > row.wave)
    mine = parts.of(row)
    return judge(
        mine.opened(connection, row, asked),
        asked[row.wave] if row.wave < len(asked) else None,
        kinds=mine.kinds(connection, row),
        moment=moment,
        noun=mine.noun,
    )


def _hold(connection: Connection, now: float, row: Row[Any], verdict: Verdict) -> None:
    since = Moment(now=now, complete_since=row.complete_since).since if verdict.complete else None
    if (since, verdict.reason) != (row.complete_since, row.waits_for):
        values = {"complete_since": since, "waits_for": verdict.reason}
        connection.execute(update(rollouts).where(rollouts.c.id == row.id).values(**values))


def _end(connection: Connection, now: float, row: Row[Any], policy: Policy, verdict: Verdict) -> None:
    parts.of(row).ended(connection, now, row, policy)
    stopped = sorted(members.stopped_for(connection, row.id))
    state, more = (State.PARTIAL, f"; stopped for {', '.join(stopped)}") if stopped else (State.DONE, "")
    control.move(connection, now, row.id, state, verdict.reason + more)


def _fail(connection: Connection, now: float, row: Row[Any], policy: Policy, verdict: Verdict) -> None:
    mine = parts.of(row)
    match policy.on_failure:
        case "pause":
            control.move(connection, now, row.id, State.FAILED, verdict.reason)
            mine.stop(connection, now, row)
        case "revert-wave":
            control.move(connection, now, row.id, State.FAILED, verdict.reason)
            waves = (verdict.wave, verdict.wave) if verdict.wave else (1, row.wave)
            back = mine.back(connection, now, row, "its wave failed", waves=waves)
            history.add(connection, now, row.id, f"taken back from {back} {mine.noun.of(back)}")
        case "revert":
            control.move(connection, now, row.id, State.REVERTING, verdict.reason)
            mine.back(connection, now, row, "the rollout failed")


def _stop(connection: Connection, now: float, row: Row[Any], policy: Policy | None, verdict: Verdict) -> None:
    """Stop one kind of hardware; the others go on."""
    values = {"rollout": row.id, "hardware": verdict.hardware, "at": now, "reason": verdict.reason}
    connection.execute(insert(stopped_kinds).values(**values))
    history.add(connection, now, row.id, f"stopped for {verdict.reason}")
    kind = rows.c.hardware == verdict.hardware
    mine = (rows.c.rollout == row.id) & kind & rows.c.current & (rows.c.standing == Standing.PLANNED)
    members.change(connection, mine, standing=Standing.STOPPED, note=f"stopped for {verdict.hardware}")
    if policy is None or policy.on_failure == "pause":
        return
    if policy.on_failure == "revert-wave" and verdict.wave:
        kind &= rows.c.wave == verdict.wave
    back = recall.begin(connection, row.id, f"stopped for {verdict.hardware}", kind)
    history.add(connection, now, row.id, f"taken back from {back} {DEVICES.of(back)} of {verdict.hardware}")
