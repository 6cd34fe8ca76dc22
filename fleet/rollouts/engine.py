"""The rollout engine: each tick loads what is open, lets the judge decide, and applies it in one bounded transaction.

A tick does a bounded piece of work and says whether there is more, so that no transaction holds the database for long,
however large the fleet is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, exists, select, update
from sqlalchemy.exc import OperationalError

from fleet import revisions
from fleet.clock import Clock
from fleet.db import Database
from fleet.mishaps import Mishaps
from fleet.orders import Orders
from fleet.rollouts import control, history, members, phases
from fleet.rollouts.judge import Decision, Verdict, judge
from fleet.rollouts.model import Policy
from fleet.tables import members as member_rows
from fleet.tables import rollouts
from modules.errors import Refused
from modules.protocol.report import Reason

ORDERS_PER_TICK: Final = 100
_ENDED: Final = [name for name, outcome in phases.OUTCOMES.items() if outcome is not phases.Outcome.WORKING]


class Engine:
    """Moves rollouts on; ``tick`` runs in a worker thread. Each device and each rollout fails alone."""

    def __init__(self, database: Database, orders: Orders, clock: Clock, mishaps: Mishaps) -> None:
        self._database, self._orders, self._clock, self._mishaps = database, orders, clock, mishaps

    def tick(self) -> bool:
        """Do one piece of work; True if another tick has more to do."""
        with self._database.write() as connection:
            now = self._clock()
            more = self._order(connection, now)
            more = self._withdraw(connection, now) or more
            for row in connection.execute(_open()).all():
                with self._alone(connection, "judgement", f"rollout {row.id}"):
                    more = self._judge(connection, now, row) or more
            return self._orders.renew(connection, now, limit=ORDERS_PER_TICK) == ORDERS_PER_TICK or more

    @contextmanager
    def _alone(self, connection: Connection, name: str, about: str) -> Iterator[None]:
        """A part of the tick that is done as a whole or not at all, and takes no other with it."""
        try:
            with connection.begin_nested():
                yield
        except OperationalError:
            raise  # the database itself: the whole tick is tried again
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one row, the others go on
            self._mishaps.note(name, about, error)

    def _order(self, connection: Connection, now: float) -> bool:
        """Issue orders for devices whose wave is open and that have none yet."""
        waiting = (
            select(member_rows.c.device, rollouts.c.id, rollouts.c.slot, rollouts.c.document, rollouts.c.waive)
            .join(rollouts)
            .where(rollouts.c.state == phases.RUNNING, member_rows.c.wave <= rollouts.c.wave)
            .where(member_rows.c.current, member_rows.c.counter.is_(None))
            .order_by(rollouts.c.id, member_rows.c.device)
            .limit(ORDERS_PER_TICK)
        )
        chosen = connection.execute(waiting).all()
        for row in chosen:
            try:
                with connection.begin_nested():
                    self._order_one(connection, now, row)
            except Refused as error:
                # Too large for the device, say. It is this device's failure, and no other's.
                members.unorderable(connection, row.device, row.id, Reason(error.code, str(error)[:2000]))
        return bool(chosen)

    def _order_one(self, connection: Connection, now: float, row: Any) -> None:
        revision = revisions.decide(
            connection, now, "", row.device, row.slot, rollout=row.id, document=row.document, waive=row.waive
        )
        counter = self._orders.issue(connection, now, row.device)
        member = (member_rows.c.rollout == row.id) & (member_rows.c.device == row.device)
        values = {"counter": counter, "phase": phases.ORDERED, "revision": revision}
        connection.execute(update(member_rows).where(member).values(**values))

    def _withdraw(self, connection: Connection, now: float) -> bool:
        """Take cancelled rollouts back from the devices that have not come to an end with them."""
        begun = (
            select(member_rows.c.device, member_rows.c.slot, member_rows.c.rollout, member_rows.c.revision)
            .join(rollouts)
            .where(rollouts.c.state == phases.CANCELLED, member_rows.c.current)
            .where(member_rows.c.revision.is_not(None), member_rows.c.phase.not_in(_ENDED))
            .limit(ORDERS_PER_TICK)
        )
        chosen = connection.execute(begun).all()
        for row in chosen:
            with self._alone(connection, "withdrawal", f"{row.device}/{row.slot}"):
                if revisions.back_to_before(connection, now, "", row.device, row.slot, row.revision):
                    self._orders.issue(connection, now, row.device)
            member = (member_rows.c.rollout == row.rollout) & (member_rows.c.device == row.device)
            connection.execute(update(member_rows).where(member).values(current=False, phase=phases.WITHDRAWN))
        return bool(chosen)

    def _judge(self, connection: Connection, now: float, row: Row[Any]) -> bool:
        """Judge one rollout; True if a wave was opened."""
        policy = msgspec.json.decode(row.policy, type=Policy)
        evidence = members.evidence(connection, row.id, row.wave)
        verdict = judge(policy, evidence, last_wave=row.wave == row.waves)
        state = row.state
        if state == phases.DONE and verdict.decision is not Decision.DONE:
            # A device that had committed went back, or cannot keep the module up.
            control.move(connection, now, row.id, phases.RUNNING, f"open again, {verdict.reason}")
            state = phases.RUNNING
        return state == phases.RUNNING and self._apply(connection, now, row, verdict)

    @staticmethod
    def _apply(connection: Connection, now: float, row: Row[Any], verdict: Verdict) -> bool:
        mine = rollouts.c.id == row.id
        match verdict.decision:
            case Decision.DONE:
                control.move(connection, now, row.id, phases.DONE, verdict.reason)
            case Decision.FAIL:
                control.move(connection, now, row.id, phases.FAILED, verdict.reason)
            case Decision.SUPERSEDED:
                control.move(connection, now, row.id, phases.CANCELLED, verdict.reason)
            case Decision.ADVANCE:
                connection.execute(update(rollouts).where(mine).values(wave=row.wave + 1))
                history.add(connection, now, row.id, f"wave {row.wave + 1} opened: {verdict.reason}")
            case Decision.HOLD:
                pass
        return verdict.decision is Decision.ADVANCE


def _open() -> Any:
    """Rollouts that run, and those that are done but have a device that failed since."""
    failed = exists().where(member_rows.c.rollout == rollouts.c.id, member_rows.c.current, members.failed())
    done = (rollouts.c.state == phases.DONE) & failed
    return select(rollouts).where((rollouts.c.state == phases.RUNNING) | done).order_by(rollouts.c.id)
