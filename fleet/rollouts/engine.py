"""The rollout engine: each tick loads what is open, lets the judge decide, and applies it in one bounded transaction.

A tick does a bounded piece of work and says whether there is more, so that no transaction holds the database for long,
however large the fleet is.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, exists, select, update

from fleet.clock import Clock
from fleet.db import Database
from fleet.orders import Orders
from fleet.rollouts import control, history, members, phases
from fleet.rollouts.judge import Decision, Verdict, judge
from fleet.rollouts.model import Policy
from fleet.tables import members as member_rows
from fleet.tables import rollouts, slots

ORDERS_PER_TICK: Final = 100
_FAILURES: Final = [name for name, outcome in phases.OUTCOMES.items() if outcome is phases.Outcome.FAILED]


class Engine:
    """Moves rollouts on; ``tick`` runs in a worker thread."""

    def __init__(self, database: Database, orders: Orders, clock: Clock) -> None:
        self._database, self._orders, self._clock = database, orders, clock

    def tick(self) -> bool:
        """Do one piece of work; True if another tick has more to do."""
        with self._database.write() as connection:
            now = self._clock()
            more = self._order(connection, now)
            for row in connection.execute(_open()).all():
                more = self._judge(connection, now, row) or more
            return self._orders.renew(connection, now, limit=ORDERS_PER_TICK) == ORDERS_PER_TICK or more

    def _order(self, connection: Connection, now: float) -> bool:
        """Issue orders for devices whose wave is open and that have none yet."""
        waiting = (
            select(member_rows.c.device, rollouts.c.id, rollouts.c.slot, rollouts.c.document)
            .join(rollouts)
            .where(rollouts.c.state == phases.RUNNING, member_rows.c.wave <= rollouts.c.wave)
            .where(member_rows.c.current, member_rows.c.counter.is_(None))
            .order_by(rollouts.c.id, member_rows.c.device)
            .limit(ORDERS_PER_TICK)
        )
        chosen = connection.execute(waiting).all()
        for row in chosen:
            self._order_one(connection, now, row)
        return bool(chosen)

    def _order_one(self, connection: Connection, now: float, row: Any) -> None:
        members.retire(connection, row.device, row.slot, but=row.id)
        mine = (slots.c.device == row.device) & (slots.c.slot == row.slot)
        values = {"rollout": row.id, "document": row.document}
        if connection.execute(update(slots).where(mine).values(**values)).rowcount == 0:
            connection.execute(slots.insert().values(device=row.device, slot=row.slot, **values))
        counter = self._orders.issue(connection, now, row.device)
        member = (member_rows.c.rollout == row.id) & (member_rows.c.device == row.device)
        connection.execute(update(member_rows).where(member).values(counter=counter, phase=phases.ORDERED))

    def _judge(self, connection: Connection, now: float, row: Row[Any]) -> bool:
        """Judge one rollout; True if a wave was opened."""
        policy = msgspec.json.decode(row.policy, type=Policy)
        evidence = members.evidence(connection, row.id, row.wave)
        verdict = judge(policy, evidence, last_wave=row.wave == row.waves)
        state = row.state
        if state == phases.DONE and verdict.decision is not Decision.DONE:
            # A device that had committed went back.
            control.move(connection, now, row.id, phases.RUNNING, f"open again, {verdict.reason}")
            state = phases.RUNNING
        return state == phases.RUNNING and self._apply(connection, now, row, verdict)

    @staticmethod
    def _apply(connection: Connection, now: float, row: Row[Any], verdict: Verdict) -> bool:
        if verdict.decision is Decision.DONE:
            control.move(connection, now, row.id, phases.DONE, verdict.reason)
        elif verdict.decision is Decision.FAIL:
            control.move(connection, now, row.id, phases.FAILED, verdict.reason)
        elif verdict.decision is Decision.ADVANCE:
            connection.execute(update(rollouts).where(rollouts.c.id == row.id).values(wave=row.wave + 1))
            history.add(connection, now, row.id, f"wave {row.wave + 1} opened: {verdict.reason}")
            return True
        return False


def _open() -> Any:
    """Rollouts that run, and those that are done but have a device that failed since."""
    failed = exists().where(
        member_rows.c.rollout == rollouts.c.id, member_rows.c.current, member_rows.c.phase.in_(_FAILURES)
    )
    done = (rollouts.c.state == phases.DONE) & failed
    return select(rollouts).where((rollouts.c.state == phases.RUNNING) | done).order_by(rollouts.c.id)
